# SPDX-License-Identifier: Apache-2.0
"""Which units does udev start for a device, and what do they run? Asked by the kernel's process for each event.

Reads the rules and units that lie in the tree; of their languages, what rules for PCI devices need.
Source: udev(7), systemd.device(5), systemd.unit(5).
"""

import os
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatchcase
from typing import Final

from cyborg_reconciler.simulation.tree import Tree

RULE_FOLDERS: Final = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d")
UNIT_FOLDERS: Final = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
TERM: Final = re.compile(
    r'\s*(?P<key>[A-Z]+)(\{(?P<name>[^}]*)\})?\s*(?P<operator>==|!=|\+=|:=|=)\s*"(?P<value>[^"]*)"'
)
UNIT_TIMEOUT_S: Final = 60
#: Programs of the host that the simulation has none of its own of: the machine's under it serve.
SHELL, PYTHON = ("/bin/sh", "/usr/bin/sh", "/bin/bash", "/usr/bin/bash"), "python"


def read_rules(tree: Tree) -> list[str]:
    """Return the lines of all rules, in the order of their files' names."""
    found: dict[str, str] = {}
    for folder in reversed(RULE_FOLDERS):
        found |= {name: f"{folder}/{name}" for name in tree.names(folder) if name.endswith(".rules")}
    texts = (tree.text(found[name]).replace("\\\n", " ") for name in sorted(found))
    return [line for text in texts for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def units_for(rules: list[str], properties: dict[str, str]) -> list[str]:
    """Return the units that *rules* want for a device with *properties* (ACTION, KERNEL, SUBSYSTEM, DRIVER, …)."""
    wanted: list[str] = []
    tagged = False
    for line in rules:
        terms = [match.groupdict() for match in TERM.finditer(line)]
        if all(_holds(term, properties) for term in terms if term["operator"] in {"==", "!="}):
            for term in terms:
                tagged = tagged or (term["key"] == "TAG" and term["operator"] != "==" and term["value"] == "systemd")
                if term["key"] == "ENV" and term["name"] == "SYSTEMD_WANTS" and term["operator"] in {"=", "+="}:
                    wanted += substitute(term["value"], properties).split()
    return list(dict.fromkeys(wanted)) if tagged else []


def _holds(term: dict[str, str], properties: dict[str, str]) -> bool:
    key = term["name"] if term["key"] == "ENV" else term["key"]
    value = properties.get(key or "", "")
    if term["key"] == "ATTR":
        value = properties.get(f"ATTR{{{term['name']}}}", "")
    same = any(fnmatchcase(value, pattern) for pattern in term["value"].split("|"))
    return same if term["operator"] == "==" else not same


def substitute(text: str, properties: dict[str, str]) -> str:
    """Return *text* with udev's ``%k`` and ``$env{…}`` filled in."""
    text = text.replace("$kernel", "%k").replace("%k", properties["KERNEL"])
    return re.sub(r"(?:\$env|%E)\{([^}]*)\}", lambda match: properties.get(match[1], ""), text)


# ---------------------------------------------------------------------------------------------------------------- units
def read_unit(tree: Tree, unit: str) -> dict[str, list[str]] | None:
    """Return the settings of *unit* (a template's instance too), each a list; None where there is no such unit."""
    file = unit_file(tree, unit)
    instance = unit.partition("@")[2].rpartition(".")[0]
    return parse_unit(tree.text(file), unit, instance) if file else None


def unit_file(tree: Tree, unit: str) -> str | None:
    """Return the file of *unit*, or of the template that it is an instance of; None where there is neither."""
    prefix, at, rest = unit.partition("@")
    template = f"{prefix}@.{rest.rpartition('.')[2]}" if at else unit
    places = [f"{folder}/{name}" for folder in UNIT_FOLDERS for name in (unit, template)]
    return next((place for place in places if tree.exists(place)), None)


def parse_unit(text: str, unit: str, instance: str) -> dict[str, list[str]]:
    """Return the settings in a unit's *text*; specifiers of its name and instance are filled in."""
    settings: dict[str, list[str]] = {}
    plain = unescape(instance)
    for line in text.replace("\\\n", " ").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith(("#", ";", "[")):
            filled = value.strip().replace("%%", "\0").replace("%i", instance).replace("%I", plain)
            filled = filled.replace("%n", unit).replace("%f", f"/{plain}").replace("\0", "%")
            settings.setdefault(name.strip(), []).append(filled)
    return settings


def unescape(instance: str) -> str:
    r"""Return *instance* with ``-`` for ``/`` and ``\x2d`` for characters undone. Source: systemd-escape(1)."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), instance.replace("-", "/"))


def run_unit(tree: Tree, unit: str) -> tuple[int, str]:
    """Run what *unit* starts, and return the first status that is not 0, with what was printed."""
    settings = read_unit(tree, unit)
    if settings is None:
        return 5, f"Failed to start {unit}: Unit {unit} not found."
    output = ""
    for condition in settings.get("ConditionPathExists", []):
        if tree.exists(condition.lstrip("!")) == condition.startswith("!"):
            return 0, f"{unit} was skipped because of an unmet condition check (ConditionPathExists={condition})."
    for line in settings.get("ExecStart", []):
        ignored = line.startswith("-")
        words = inside(tree, shlex.split(line.lstrip("-+!@:")))
        environment = {
            "PATH": f"{tree.path('/usr/sbin')}:{os.environ.get('PATH', os.defpath)}",
            "CYBORG_ROOT": tree.root,
        }
        for each in settings.get("Environment", []):
            environment |= dict(pair.split("=", 1) for pair in shlex.split(each))
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=UNIT_TIMEOUT_S,
            check=False,
        )
        output += done.stdout
        if done.returncode and not ignored:
            return done.returncode, output
    return 0, output


def inside(tree: Tree, words: list[str]) -> list[str]:
    """Return a command line with the paths that are in the tree taken from there."""
    program, *rest = words
    if tree.exists(program):
        program = tree.path(program)
    elif os.path.basename(program).startswith(PYTHON):
        program = sys.executable
    elif program not in SHELL:
        program = tree.path(program)
    return [program, *(tree.path(word) if word.startswith("/") and tree.exists(word) else word for word in rest)]

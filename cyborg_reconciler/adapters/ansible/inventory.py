# SPDX-License-Identifier: Apache-2.0
"""Which hosts are there, by any Ansible inventory? Asked at the start of every pass.

Runs ``ansible-inventory --list`` in a process of its own, and reads the JSON that it writes.
"""

import re
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from cyborg_reconciler.adapters.ansible import processes
from cyborg_reconciler.adapters.ansible.environment import MARKER, base_environment
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.errors import InventoryUnreadableError

LABELS_VARIABLE: Final = "cyborg_labels"
ROOT_VARIABLE: Final = "cyborg_root"
ENDPOINT_VARIABLE: Final = "cyborg_agent_endpoint"
#: Where an agent listens unless it is told otherwise.
AGENT_PORT: Final = 1337
LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))

#: The last word of ansible-core on what is wrong. "[ERROR]: …" since 2.19, "ERROR! …" before.
ERROR_LINE: Final = re.compile(r"^(?:\[ERROR\]:|ERROR!) (.+)$", re.MULTILINE)
#: Why one plugin could not read a source; several are tried. The second form is that of releases before 2.19.
REASON_LINE: Final = re.compile(
    r"Failed to parse inventory with '(?P<plugin>[^']+)' plugin: (?P<reason>.+)$"
    r"|^\[WARNING\]: *\* Failed to parse .+ with (?P<older>\S+) plugin: (?P<older_reason>.+)$",
    re.MULTILINE,
)
STRUCTURED: Final = (".yml", ".yaml", ".json")


class Group(msgspec.Struct):
    """A group as ansible-inventory writes it."""

    children: list[str] = []
    hosts: list[str] = []


class Meta(msgspec.Struct):
    """What ansible-inventory writes beside the groups."""

    hostvars: dict[str, dict[str, Any]] = {}


class AnsibleInventory:
    """The hosts of an Ansible inventory, under its limit."""

    def __init__(self, options: AnsibleOptions) -> None:
        self._options = options

    def hosts(self) -> Sequence[Host]:
        """Return the hosts, in the inventory's order.

        Raises:
            InventoryUnreadableError: it cannot be read, has no host, or the limit matches none.
        """
        options = self._options
        for source in options.inventory:
            if "," not in source and not (options.folder / Path(source).expanduser()).exists():
                raise InventoryUnreadableError(wanted=f"the inventory {source}", found="no such file or folder")
        hosts = parse_inventory(self._read())
        if not hosts and options.limit:
            raise InventoryUnreadableError(
                wanted=f"hosts that match --limit {options.limit!r}",
                found="the inventory has none",
                remedy="check the pattern against `ansible-inventory -i … --graph`",
            )
        if not hosts:
            raise InventoryUnreadableError(wanted=f"hosts in {self._name()}", found="there are none")
        return hosts

    def _read(self) -> bytes:
        """Return the inventory as JSON."""
        options, run = self._options, uuid.uuid4().hex
        command = [sys.executable, "-P", "-m", "ansible", "inventory", "--list", *options.inventory_arguments()]
        if options.limit:
            command += ["--limit", options.limit]
        environment = base_environment(options.environ, options.folder) | {MARKER: run}
        try:
            done = subprocess.run(
                command,
                cwd=options.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=options.inventory_timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            found = f"ansible-inventory did not end within {options.inventory_timeout_s:g} s"
            raise InventoryUnreadableError(wanted=self._name(), found=found) from exc
        finally:
            processes.end(run)  # an inventory script may have left something behind
        if done.returncode:
            reason = explain(done.stderr.decode("utf-8", "replace"), done.returncode)
            raise InventoryUnreadableError(wanted=self._name(), found=reason)
        return done.stdout

    def _name(self) -> str:
        return f"the inventory {', '.join(self._options.inventory) or 'of ansible.cfg'}"


def explain(stderr: str, returncode: int) -> str:
    """Return in one line what ansible-inventory says is wrong: its verdict, and the likeliest plugin's reason."""
    errors = ERROR_LINE.findall(stderr)
    if not errors:
        words = stderr.split()
        return " ".join(words[-40:]) if words else f"ansible-inventory ended with {returncode} and said nothing"
    verdict = errors[-1].strip()
    reasons = {
        (match["plugin"] or match["older"]).rpartition(".")[2]: (match["reason"] or match["older_reason"]).strip()
        for match in REASON_LINE.finditer(stderr)
    }
    likely = ("yaml", "auto", "ini") if verdict.endswith(STRUCTURED) else ("script", "ini", "yaml", "auto")
    reason = next((reasons[plugin] for plugin in likely if plugin in reasons), "")
    return f"{verdict}: {reason}" if reason else verdict


def parse_inventory(document: bytes) -> tuple[Host, ...]:
    """Return the hosts in what ansible-inventory wrote.

    Raises:
        InventoryUnreadableError: it is no such JSON, or a host's labels are not strings.
    """
    try:
        raw = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        meta = msgspec.json.decode(raw.pop("_meta", b"{}"), type=Meta)
        groups = {name: msgspec.json.decode(group, type=Group) for name, group in raw.items()}
    except msgspec.MsgspecError as exc:
        raise InventoryUnreadableError(wanted="JSON of ansible-inventory", found=str(exc)) from exc
    groups_of = find_groups(groups)
    return tuple(
        Host(
            name=name,
            groups=frozenset(groups_of[name]),
            labels=parse_labels(name, meta.hostvars.get(name, {})),
            agent_endpoint=parse_endpoint(name, meta.hostvars.get(name, {})),
            root=str(meta.hostvars.get(name, {}).get(ROOT_VARIABLE, "/")),
        )
        for name in dict.fromkeys(walk_hosts(groups))
    )


def walk_hosts(groups: Mapping[str, Group]) -> Iterator[str]:
    """Yield the hosts in the inventory's order; a host of several groups comes several times."""
    ahead, seen = ["all"], set()
    while ahead:
        name = ahead.pop(0)
        if name not in seen and name in groups:
            seen.add(name)
            yield from groups[name].hosts
            ahead = groups[name].children + ahead


def find_groups(groups: Mapping[str, Group]) -> dict[str, set[str]]:
    """Return the groups of every host: those that name it, and all above them."""
    parents = defaultdict(set)
    for name, group in groups.items():
        for child in group.children:
            parents[child].add(name)
    found: dict[str, set[str]] = defaultdict(set)
    for name, group in groups.items():
        above, ahead = set(), [name]
        while ahead:
            if (here := ahead.pop()) not in above:
                above.add(here)
                ahead.extend(parents[here])
        for host in group.hosts:
            found[host] |= above
    return found


def parse_endpoint(host: str, variables: Mapping[str, Any]) -> str:
    """Return the URL at which the agent of *host* can be called; empty where the inventory gives none.

    Raises:
        InventoryUnreadableError: it is none, or the credential would travel in the clear.
    """
    given = variables.get(ENDPOINT_VARIABLE, "")
    if not given:
        return ""
    text = given if isinstance(given, str) else ""
    url = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    bare = is_one and not (parts.username or parts.query or parts.fragment or parts.path.strip("/"))
    if not bare or not text.isprintable() or any(sign in text for sign in " {}"):
        wanted = f"{ENDPOINT_VARIABLE} as NAME:PORT or https://NAME:PORT"
        raise InventoryUnreadableError(host=host, wanted=wanted, found=repr(given))
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        found = f"{text}: the credential would travel in the clear"
        raise InventoryUnreadableError(host=host, wanted=f"{ENDPOINT_VARIABLE} with https", found=found)
    return f"{parts.scheme}://{parts.netloc if parts.port else f'{parts.netloc}:{AGENT_PORT}'}"


def parse_labels(host: str, variables: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels that the inventory gives to *host*.

    Raises:
        InventoryUnreadableError: they are no mapping of strings, or a template: nothing resolves those here.
    """
    labels = variables.get(LABELS_VARIABLE, {})
    remedy = f"write {LABELS_VARIABLE} as names and texts, e.g. {{pool: crypto, rack: 'r12'}}"
    if not isinstance(labels, dict):
        raise InventoryUnreadableError(
            host=host, wanted=f"{LABELS_VARIABLE} as a mapping", found=repr(labels), remedy=remedy
        )
    for name, value in labels.items():
        if not isinstance(value, str):
            found = f"{name}: {value!r} ({type(value).__name__})"
            raise InventoryUnreadableError(host=host, wanted=f"texts in {LABELS_VARIABLE}", found=found, remedy=remedy)
        if "{{" in value or "{%" in value:
            raise InventoryUnreadableError(
                host=host, wanted=f"plain texts in {LABELS_VARIABLE}", found=f"a template in {name}", remedy=remedy
            )
    return labels

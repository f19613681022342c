# SPDX-License-Identifier: Apache-2.0
"""What does modprobe's configuration say? Asked by the loader, for the disk's own and for the initramfs's copy.

`read_*` does I/O on the tree, `parse_*` does not. Source: modprobe.d(5), modules-load.d(5).
"""

import shlex
from dataclasses import dataclass, field
from typing import Final

from cyborg_reconciler.simulation.tree import Tree

#: The first folder that has a file of a name hides those of the others.
MODPROBE_FOLDERS: Final = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d")
LOAD_FOLDERS: Final = ("/etc/modules-load.d", "/run/modules-load.d", "/usr/lib/modules-load.d")


@dataclass(slots=True)
class ModprobeConfig:
    """Blacklists, options and aliases; names with underscores."""

    blacklist: set[str] = field(default_factory=set)
    options: dict[str, dict[str, str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    install: dict[str, str] = field(default_factory=dict)


def read_files(tree: Tree, folders: tuple[str, ...] = MODPROBE_FOLDERS) -> dict[str, str]:
    """Return the ``*.conf`` files of *folders*, name → text, in the order of their names."""
    found: dict[str, str] = {}
    for folder in reversed(folders):
        found |= {name: tree.text(f"{folder}/{name}") for name in tree.names(folder) if name.endswith(".conf")}
    return dict(sorted(found.items()))


def parse_config(files: dict[str, str], arguments: list[str]) -> ModprobeConfig:
    """Return what *files* and the kernel's *arguments* say."""
    config = ModprobeConfig()
    for text in files.values():
        for line in text.replace("\\\n", " ").splitlines():
            words = line.split("#")[0].split()
            if len(words) > 1:
                _add(config, words)
    for argument in arguments:
        _add_argument(config, argument)
    return config


def _add(config: ModprobeConfig, words: list[str]) -> None:
    kind, name, rest = words[0], canonical(words[1]), words[2:]
    if kind == "blacklist":
        config.blacklist.add(name)
    elif kind == "options":
        config.options.setdefault(name, {}).update(parse_options(" ".join(rest)))
    elif kind == "alias" and rest:
        config.aliases[words[1]] = canonical(rest[0])
    elif kind == "install":
        config.install[name] = " ".join(rest)


def _add_argument(config: ModprobeConfig, argument: str) -> None:
    name, equals, value = argument.partition("=")
    if name in {"modprobe.blacklist", "module_blacklist"}:
        config.blacklist.update(canonical(each) for each in value.split(",") if each)
    elif equals and "." in name:
        module, _, option = name.partition(".")
        config.options.setdefault(canonical(module), {})[option] = value


def parse_options(text: str) -> dict[str, str]:
    """Return the options in *text*: ``a=1 b="x y" c``."""
    pairs = (word.partition("=") for word in shlex.split(text))
    return {name: value if equals else "Y" for name, equals, value in pairs}


def parse_load(files: dict[str, str]) -> list[str]:
    """Return the modules that *files* of modules-load.d name."""
    lines = [line.strip() for text in files.values() for line in text.splitlines()]
    return [canonical(line) for line in lines if line and line[0] not in "#;"]


def canonical(name: str) -> str:
    """Return a module's name as the kernel says it."""
    return name.replace("-", "_")

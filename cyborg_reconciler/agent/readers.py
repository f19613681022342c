# SPDX-License-Identifier: Apache-2.0
"""What is true of this host? The one door to the code of the collection's fact modules. Does I/O: reads the host.

`process` opens the host once; `observer` and the drivers read through it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable, clean
from cyborg_reconciler.errors import HostUnreadableError

Facts = Mapping[str, Any]

PCI_DEVICES: Final = "/sys/bus/pci/devices"
#: Files and folders whose time of change tells that a part of the facts may be another now.
CONFIGURATION: Final = (
    *("/etc/modprobe.d", "/etc/modules-load.d", "/etc/default/grub", "/etc/kernel/cmdline", "/boot/grub/grub.cfg"),
    *("/boot/grub2/grub.cfg", "/boot/loader/entries", "/etc/cyborg-reconciler/devices", "/var/lib/dkms", "/boot"),
    "/var/lib/cyborg-reconciler/ownership.json",
)
#: More reasons than these tell nothing new to whoever reads them.
UNREAD_LIMIT: Final = 100


class Host:
    """The files of the host below *root*. Raises: HostUnreadableError where there is no such folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self._tree = Tree(str(root))
        except Unreadable as exc:
            raise HostUnreadableError(wanted="the files of the host", found=exc.reason) from exc

    @property
    def is_live(self) -> bool:
        """Say whether this is the system that the agent runs on, and no simulated one."""
        return bool(self._tree.is_live)

    def read_facts(self, modules: Sequence[str] = ()) -> Facts:
        """Return the facts document, which speaks of *modules* too.

        Raises: HostUnreadableError where not even the devices can be listed.
        """
        try:
            # Each look has a tree of its own: what it remembers of links is true for one look.
            facts: Facts = gather(Tree(str(self.root)), modules=modules, connection="local")
        except (Unreadable, OSError) as exc:
            raise HostUnreadableError(wanted="the host's devices", found=str(exc)) from exc
        return facts

    def read_stamp(self) -> str:
        """Return a digest of what the kernel tells no events of; it costs a hundredth of the facts.

        Shape: drivers and VFs of the functions, names of modules and net devices, times of configuration files.
        Another digest means that the facts may have changed; what cannot be read is left out.
        """
        return hashlib.sha256("\n".join(self._stamps()).encode("utf-8", "surrogateescape")).hexdigest()

    def _stamps(self) -> Iterator[str]:
        for address in self.names(PCI_DEVICES):
            base = f"{PCI_DEVICES}/{address}"
            yield f"{address} {self.link_name(f'{base}/driver')} {self.text(f'{base}/sriov_numvfs')}"
        modules = self.text("/proc/modules") or ""
        yield " ".join(sorted(line.partition(" ")[0] for line in modules.splitlines()))
        yield " ".join(self.names("/sys/class/net"))
        yield " ".join(self.names("/sys/class/block"))
        for name in CONFIGURATION:
            yield f"{name} {self._changed(name)}"

    def _changed(self, name: str) -> int | None:
        try:
            return Path(self._tree.path(name)).stat().st_mtime_ns
        except OSError:
            return None

    def read(self, name: str) -> str | None:
        """Return the text of the attribute *name*, None where it is absent. Raises: HostUnreadableError."""
        try:
            text: str | None = self._tree.read_text(name)
        except Unreadable as exc:
            raise HostUnreadableError(wanted=name, found=exc.reason) from exc
        return text

    def text(self, name: str) -> str | None:
        """Return the text of the attribute *name*, None where it is absent or cannot be read."""
        try:
            return self.read(name)
        except HostUnreadableError:
            return None

    def names(self, folder: str) -> list[str]:
        """Return what is in *folder*, nothing where it is absent or cannot be read."""
        try:
            return self._tree.listdir(folder) or []
        except Unreadable:
            return []

    def link_name(self, name: str) -> str | None:
        """Return the last part of what the link *name* leads to, None where there is none or it cannot be read."""
        try:
            found: str | None = self._tree.link_name(name)
        except Unreadable:
            return None
        return found

    def exists(self, name: str) -> bool:
        """Say whether *name* is there; what cannot be looked at is not known to be gone."""
        return not self._tree.is_absent(name)


def unread_in(facts: Facts) -> tuple[str, ...]:
    """Return why parts of *facts* could not be read, each reason once, in the order of the alphabet."""
    reasons = sorted(set(_reasons(facts)))
    if len(reasons) > UNREAD_LIMIT:
        return (*reasons[:UNREAD_LIMIT], f"and {len(reasons) - UNREAD_LIMIT} more")
    return tuple(reasons)


def _reasons(value: object, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _reasons(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _reasons(item)
    elif isinstance(value, str) and (key == "unknown" or key.endswith("_unknown")):
        yield value


def shown(text: str) -> str:
    """Return *text*, which may come from anywhere, as one line without control characters."""
    line: str = clean(text)
    return line

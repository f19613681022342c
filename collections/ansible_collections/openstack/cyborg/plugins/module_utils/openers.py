# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""Which processes have a node of a kernel module open, whose node hangs on no PCI function? And what is mapped?

`kmod` asks for modules whose reference count nothing else explains, `holders` for mappings before a change. Does I/O.
"""

import os

from ansible_collections.openstack.cyborg.plugins.module_utils.holders import ENDED, holder, open_files, require_sight
from ansible_collections.openstack.cyborg.plugins.module_utils.modprobe import canonical
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable, decoded


def read_openers(tree, names):
    """Return ``{module: [holders]}`` for the modules *names*; processes are looked through once. Raises: Unreadable."""
    require_sight(tree)
    found = {name: [] for name in names}
    makers = {}  # node → the module that made it
    for pid, node in sorted({(pid, node) for pid, _handle, node in open_files(tree) if node.startswith("/dev/")}):
        if node not in makers:
            makers[node] = _maker(tree, node, names)
        if makers[node]:
            comm = tree.fact(f"/proc/{pid}/comm")
            found[makers[node]].append(holder("process", comm if isinstance(comm, str) else "?", pid, node))
    return found


def mapped_files(tree):
    """Yield (pid, None, path) for what processes have mapped of devices: the descriptor may be closed since.

    Reading it takes long where processes have mapped much. Raises: Unreadable. Source: proc(5), /proc/pid/maps.
    """
    for pid in tree.listdir("/proc") or ():
        name = f"/proc/{pid}/maps"
        try:
            if pid.isdigit():
                with os.fdopen(tree.open_read(name), "rb") as file:
                    for line in file:
                        if b" /dev/" in line or b"/resource" in line:
                            yield int(pid), None, decoded(line[line.index(b"/") :].rstrip(b"\n"))
        except OSError as exc:
            if exc.errno not in ENDED:
                raise Unreadable(f"{name}: what is mapped of devices is not shown: {exc.strerror}") from exc


def _maker(tree, node, names):
    """Return which of the modules *names* made *node*, None where none did: by its name, else by what is behind it."""
    called = canonical(node.rpartition("/")[2])
    if called in names:
        return called
    try:
        status = os.stat(tree.path(node))
    except OSError:
        return None
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    for kind in ("char", "block"):
        link = f"/sys/dev/{kind}/{number}"
        if tree.exists(link):
            return next((name for name in _drivers(tree, tree.resolve(link)) if name in names), None)
    return None


def _drivers(tree, path):
    """Yield the modules that drive the device at *path* and those above it."""
    while path.startswith("/sys/devices/"):
        module = tree.link_name(path + "/driver/module")
        if module:
            yield canonical(module)
        path = path.rpartition("/")[0]

# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What is mounted where, and from which block devices?

`holders` and `protection` call this. Does I/O.
"""

import re

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable

#: The first process's view is the system's; a service such as the resident agent may have mounts of its own.
MOUNTINFO = ("/proc/1/mountinfo", "/proc/self/mountinfo")
#: Nothing carries these: filesystems of memory, and the place where something is mounted once it is wanted.
CARRIED_BY_NOTHING = ("rootfs", "ramfs", "tmpfs", "autofs")


class Mount:
    """One mount: its *point*, *fstype*, *source*, and the names of the *blocks* that it is known to lie on."""

    def __init__(self, point, fstype, source, blocks):
        self.point, self.fstype, self.source, self.blocks = point, fstype, source, blocks


def parse_mountinfo(text):
    """Return ``[(device number, point, fstype, source)]``. Raises: ValueError. Source: proc(5), /proc/pid/mountinfo."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not separator or len(left) < 5 or len(right) < 2:  # noqa: PLR2004 -- the fields of the manual page
            raise ValueError("not what proc(5) describes")
        found.append((left[2], unescape(left[4]), right[0], unescape(right[1])))
    return found


def parse_mounts(text):
    """Return the same of /proc/mounts, which knows no device numbers. Source: proc(5), /proc/mounts; fstab(5)."""
    lines = (line.split(" ") for line in text.splitlines())
    return [("", unescape(words[1]), words[2], unescape(words[0])) for words in lines if words[2:]]


def unescape(text):
    r"""Return *text* with ``\040`` and its like as the characters that they stand for."""
    if "\\" not in text:
        return text  # nearly always, and then no pattern has to be compiled
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def read_mounts(tree, topology):
    """Return all mounts, in the order that they were made. Raises: Unreadable, also when there is nothing to read."""
    entries = _read_entries(tree)
    filesystems = _read_btrfs(tree) if any(entry[2] == "btrfs" for entry in entries) else []
    mounts = []
    for number, point, fstype, source in entries:
        name = topology.block_numbers.get(number) or block_named(tree, topology, source)
        blocks = [name] if name else []
        for members in filesystems:
            if fstype == "btrfs" and name in members:
                blocks = members
        mounts.append(Mount(point, fstype, source, blocks))
    return mounts


def _read_entries(tree):
    try:
        for name in MOUNTINFO:
            try:
                text = tree.read_text(name)
            except Unreadable:  # the first process may be hidden; our own view is as good, as a rule
                if name == MOUNTINFO[-1]:
                    raise
                continue
            if text:
                return parse_mountinfo(text)
        for name in ("/proc/self/mounts", "/proc/mounts"):
            text = tree.read_text(name)
            if text:
                return parse_mounts(text)
    except ValueError as exc:
        raise Unreadable(f"mounts: {exc}") from exc
    raise Unreadable(f"{MOUNTINFO[-1]}: no such file, so nothing is known of the mounts")


def block_named(tree, topology, node):
    """Return the name of the block device behind *node* (``/dev/mapper/vg-root``), None where it is none."""
    if not node.startswith("/dev/"):
        return None
    for path in (node, tree.resolve(node)):
        name = path[len("/dev/") :].replace("/", "!")
        if name in topology.blocks:
            return name
    return None


def _read_btrfs(tree):
    """Return the block devices of each mounted btrfs; mountinfo names only one of them. Source: btrfs(5), sysfs."""
    folders = [f"/sys/fs/btrfs/{name}/devices" for name in tree.listdir("/sys/fs/btrfs") or ()]
    return [tree.listdir(folder) or [] for folder in folders]


def mount_of(mounts, path):
    """Return the mount that the file *path* lies on, None where none covers it."""
    covering = [mount for mount in mounts if path.startswith(mount.point.rstrip("/") + "/") or path == mount.point]
    return max(covering, key=lambda mount: len(mount.point), default=None)

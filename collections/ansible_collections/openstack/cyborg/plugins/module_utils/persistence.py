# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What shall a device become at boot, and how is that written down on the host?

One JSON file a device, which also says what device that is, since addresses move when cards do. It is written by the
state modules `sriov_vfs` and `device_binding`, obeyed at boot by the unit ``cyborg-device@.service``, read back by the
fact modules. Parse and render are pure; `read_*` does I/O.
"""

import json

from ansible_collections.openstack.cyborg.plugins.module_utils import restore
from ansible_collections.openstack.cyborg.plugins.module_utils.topology import PCI_DEVICES
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Unreadable, clean, unknown

DEVICES_FOLDER = "/etc/cyborg-reconciler/devices"
VERSION = 1
#: NumVFs is a field of 16 bits. Source: PCI Express Base Specification, SR-IOV Extended Capability.
VF_INDEX_MAX = 65534
#: A device that nothing is persisted for.
NOTHING = {"num_vfs": None, "vf_drivers": [], "driver": None}


def device_file(address):
    """Return where the state of the device at *address* is persisted."""
    return f"{DEVICES_FOLDER}/{address}.json"


def render_device(address, identity, *, num_vfs=None, vf_drivers=(), driver=None):
    """Return the text of a device's file; *vf_drivers* as in the facts: ``[{"vfs": "0-3", "driver": "vfio-pci"}]``."""
    document = {
        "version": VERSION,
        "address": address,
        "identity": identity,
        "num_vfs": num_vfs,
        "vf_drivers": list(vf_drivers),
        "driver": driver,
    }
    return json.dumps(document, indent=2) + "\n"


def parse_device(text):
    """Return ``{"num_vfs": int | None, "vf_drivers": [...], "driver": str | None}`` of a device's file.

    Raises: ValueError, saying what is wrong with it.
    """
    document = _parse(text)
    num_vfs, driver = document.get("num_vfs"), document.get("driver")
    if num_vfs is not None and not _is_count(num_vfs):
        raise ValueError(f"num_vfs is {num_vfs!r}, not a count")
    if not (driver is None or isinstance(driver, str)):
        raise ValueError(f"driver is {driver!r}, not a name")
    # There and back again gives one spelling: sorted, neighbours joined.
    return {"num_vfs": num_vfs, "vf_drivers": collapse(expand(document.get("vf_drivers") or [])), "driver": driver}


def parse_identity(text):
    """Return which device a device's file is for; empty in one of an earlier version. Raises: ValueError."""
    return dict(_parse(text).get("identity") or {})


def _parse(text):
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError(f"no document of version {VERSION}")
    return document


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_identity(tree, address):
    """Return what tells the device at *address* from others. Raises: Unreadable."""
    folder = f"{PCI_DEVICES}/{address}"
    found = {name: tree.read_text(f"{folder}/{name}") for name in restore.IDS}
    found["serial"] = restore.serial_in(tree.read_bytes(f"{folder}/config", restore.CONFIG_BYTES) or b"")
    return {name: value for name, value in found.items() if value}


def read_device(tree, address):
    """Return what is persisted for the device at *address*; what its file says of another is not. Raises: Unreadable.

    >>> read_device(tree, "0000:6b:00.0")
    {"num_vfs": 8, "vf_drivers": [{"vfs": "0-7", "driver": "vfio-pci"}], "driver": None}
    """
    persisted, differs = _read_file(tree, address)
    return dict(NOTHING) if differs else persisted


def _read_file(tree, address):
    """Return what the file for *address* says, and how the device there differs from the one that it is for."""
    name = device_file(address)
    text = tree.read_text(name)
    if text is None:
        return dict(NOTHING), ""
    try:
        recorded = parse_identity(text)
        differs = restore.difference(recorded, read_identity(tree, address)) if recorded else ""
        return parse_device(text), differs
    except (ValueError, TypeError, KeyError) as exc:
        raise Unreadable(f"{name}: {exc}") from exc


def read_boot_facts(tree, addresses):
    """Return ``{address: {"boot_num_vfs": …, "boot_vf_drivers": …, "boot_driver": …}}`` for those that have a file."""
    try:
        names = set(tree.listdir(DEVICES_FOLDER) or ())
    except Unreadable as exc:
        return {address: _unreadable(exc.reason) for address in addresses}
    return {address: _boot_facts(tree, address) for address in addresses if f"{address}.json" in names}


def _boot_facts(tree, address):
    try:
        found, differs = _read_file(tree, address)
    except Unreadable as exc:
        return _unreadable(exc.reason)
    if differs:
        return _unreadable(f"{device_file(address)} is for another device, and is not obeyed: {differs}; remove it")
    return {
        "boot_num_vfs": found["num_vfs"],
        "boot_vf_drivers": found["vf_drivers"],
        "boot_driver": found["driver"],
    }


def _unreadable(reason):
    fact = unknown(reason)
    return {"boot_num_vfs": fact, "boot_vf_drivers": fact, "boot_driver": fact}


# ------------------------------------------------------------------------------------------------------- ranges of VFs
def parse_vfs(vfs):
    """Return the range of VF indexes that ``"0-3"`` or ``"5"`` stands for. Raises: ValueError."""
    first, dash, last = str(vfs).partition("-")
    last = last if dash else first
    indexes = range(int(first), int(last) + 1) if first.isdecimal() and last.isdecimal() else ()
    if not indexes or indexes[0] < 0 or indexes[-1] > VF_INDEX_MAX:
        raise ValueError(f"{clean(str(vfs), 40)} is no range of VFs: write it as 0-3, or as 5")
    return indexes


def expand(vf_drivers):
    """Return ``{index: driver}`` of ``[{"vfs": "0-3", "driver": "vfio-pci"}]``.

    Raises: ValueError for what is no range, and for an index given twice.
    """
    drivers = {}
    for entry in vf_drivers:
        for index in parse_vfs(entry["vfs"]):
            if index in drivers:
                raise ValueError(f"VF {index} is given twice")
            drivers[index] = entry["driver"]
    return drivers


def collapse(drivers):
    """Return ``{index: driver}`` as the shortest list of ranges, by index; VFs without a driver (None) are left out."""
    ranges = []
    for index in sorted(index for index, driver in drivers.items() if driver is not None):
        driver = drivers[index]
        if ranges and ranges[-1][1] == index - 1 and ranges[-1][2] == driver:
            ranges[-1][1] = index
        else:
            ranges.append([index, index, driver])
    return [
        {"vfs": str(first) if first == last else f"{first}-{last}", "driver": driver} for first, last, driver in ranges
    ]

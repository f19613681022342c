# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How does a PF get so many VFs, bound to these drivers, now and at the next boot?

Called by the module `sriov_vfs` and by `apply`. Does I/O through `Host`.
Source: Linux, Documentation/ABI/testing/sysfs-bus-pci, ``sriov_numvfs`` and ``sriov_drivers_autoprobe``.
"""

import contextlib

from ansible_collections.openstack.cyborg.plugins.module_utils import boot, devices, guards, unfinished
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Refusal, Result
from ansible_collections.openstack.cyborg.plugins.module_utils.pci import read_function
from ansible_collections.openstack.cyborg.plugins.module_utils.persistence import collapse, expand, read_device
from ansible_collections.openstack.cyborg.plugins.module_utils.topology import PCI_DEVICES
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import is_unknown

ARGUMENTS = {
    "address": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "num_vfs": {"type": "int"},
    "vf_driver": {"type": "str"},
    "groups": {
        "type": "list",
        "elements": "dict",
        "options": {"vfs": {"type": "str", "required": True}, "driver": {"type": "str", "required": True}},
    },
    "replace": {"type": "bool", "default": False},
    "persist": {"type": "bool", "default": True},
}
NO_ROOM = "no room for the VFs' memory or bus numbers: look for SR-IOV, ARI and large BARs in the firmware's set-up"
#: What the kernel means by its errors. Source: Linux, drivers/pci/pci-sysfs.c (sriov_numvfs_store) and iov.c.
HINTS = {
    "EBUSY": "VFs are there already, or the driver is in the middle of something",
    "ENOENT": "the driver that is bound makes no VFs",
    "ERANGE": "more than the device supports",
    "ENOMEM": NO_ROOM,
    "ENOSPC": NO_ROOM,
}


def read(tree, args):
    """Return what is there, in the words of the module's RETURN. Raises: Failure, Unreadable."""
    device = devices.read_present(tree, devices.checked_address(args["address"]))
    count = device["num_vfs"]
    if is_unknown(count):
        raise Failure("%s: sriov_numvfs: %s" % (device["address"], count["unknown"]))
    found = [read_function(tree, address) for address in device["vfs"]]
    drivers = {index: vf["driver"] for index, vf in enumerate(found) if vf is not None}
    at_boot = read_device(tree, device["address"])
    return {
        "num_vfs": count,
        "vf_drivers": collapse(drivers),
        "boot_num_vfs": at_boot["num_vfs"],
        "boot_vf_drivers": at_boot["vf_drivers"],
    }


class Wanted:
    """What is asked for, against what was found.

    Attributes:
        num_vfs: how many VFs. drivers: by index, for those VFs that get one. boot: what shall persist.
    """

    def __init__(self, args, before, at_boot):
        present = args["state"] == "present"
        count = args["num_vfs"] if present else 0
        self.num_vfs = (before["num_vfs"] or 0) if count is None else count
        if self.num_vfs < 0:
            raise ValueError("%s: num_vfs is %d, and cannot be less than 0" % (args["address"], self.num_vfs))
        self.drivers = self._drivers(args) if present else {}
        kept = present and args["persist"] and self.num_vfs > 0
        self.boot = dict(
            at_boot, num_vfs=self.num_vfs if kept else None, vf_drivers=collapse(self.drivers) if kept else []
        )

    def _drivers(self, args):
        found = dict.fromkeys(range(self.num_vfs), args["vf_driver"]) if args["vf_driver"] else {}
        for index, driver in self._groups(args).items():
            if index >= self.num_vfs:
                raise ValueError("%s: groups name VF %d, and there are %d" % (args["address"], index, self.num_vfs))
            found[index] = driver
        return {index: devices.checked_driver(driver) for index, driver in found.items()}

    def _groups(self, args):
        try:
            return expand(args["groups"] or [])
        except ValueError as exc:
            raise ValueError("%s: groups: vfs: %s" % (args["address"], exc)) from exc

    def after(self, before):
        """Return what *before* becomes, in the words of the module's RETURN."""
        drivers = expand(before["vf_drivers"]) if before["num_vfs"] == self.num_vfs else {}
        drivers.update(self.drivers)
        return {
            "num_vfs": None if before["num_vfs"] is None else self.num_vfs,
            "vf_drivers": collapse({i: None if one == devices.UNBOUND else one for i, one in drivers.items()}),
            "boot_num_vfs": self.boot["num_vfs"],
            "boot_vf_drivers": self.boot["vf_drivers"],
        }


def ensure(host, args):
    """Make the PF's VFs as *args* say. Raises: Refusal, Failure, ValueError, Unreadable."""
    address = args["address"]
    before = read(host.tree, args)
    device = devices.read_present(host.tree, address)
    at_boot = read_device(host.tree, address)
    wanted = Wanted(args, before, at_boot)
    count_differs = wanted.num_vfs != (before["num_vfs"] or 0)
    rebound = _rebound(host.tree, wanted, before, count_differs)
    if not count_differs and not rebound and boot.is_persisted(host.tree, address, wanted.boot):
        return Result(before, before, changed=False)
    _refuse_impossible(host.tree, device, wanted, count_differs)
    _refuse_unsafe(host, device, args, rebound, count_differs)
    if not host.announce(before):
        return Result(before, wanted.after(before), changed=True)
    if wanted.boot["num_vfs"] is None:
        boot.persist(host, address, wanted.boot)  # nothing may make them again while they go
    if count_differs:
        _set_count(host, device, wanted)
    _bind(host, address, wanted.drivers)
    boot.persist(host, address, wanted.boot)
    after = read(host.tree, args)
    _verify(host.tree, address, wanted, after)
    return Result(before, after, changed=True)


def _rebound(tree, wanted, before, count_differs):
    """Return the indexes of the VFs that are there, stay, and get another driver."""
    if count_differs:
        return []
    drivers = expand(before["vf_drivers"])
    return [index for index, driver in _registered(tree, wanted) if drivers.get(index, devices.UNBOUND) != driver]


def _registered(tree, wanted):
    """Return the drivers that are wanted, by index, as the kernel calls them as far as it knows them by now."""
    return [(index, devices.registered(tree, driver) or driver) for index, driver in wanted.drivers.items()]


def _refuse_impossible(tree, device, wanted, count_differs):
    """Refuse what the device or the kernel cannot do. Raises: Refusal."""
    address, total = device["address"], device["total_vfs"]
    if count_differs and not isinstance(total, int):
        raise Refusal("Unsupported", "%s: sriov_totalvfs: the device offers no SR-IOV" % address)
    if count_differs and wanted.num_vfs > total:
        text = "%s: sriov_numvfs: %d exceeds the %d that the device supports" % (address, wanted.num_vfs, total)
        raise Refusal("Unsupported", text)
    if count_differs and wanted.num_vfs and not device["driver"]:
        raise Refusal("Unsupported", "%s: no driver is bound to it, and it is the PF's driver that makes VFs" % address)
    if any(devices.is_vfio(driver) for driver in wanted.drivers.values()):
        devices.refuse_without_iommu(tree, device)


def _refuse_unsafe(host, device, args, rebound, count_differs):
    """Refuse to touch what is protected or in use, and to take VFs away that nobody said may go. Raises: Refusal."""
    address, there = device["address"], len(device["vfs"])
    touched = list(device["vfs"]) if count_differs else [device["vfs"][index] for index in rebound]
    if count_differs or rebound:
        guards.refuse(host, protected=[address, *touched], held=touched, named=_named(device))
    if count_differs and there and args["state"] == "present" and args["num_vfs"] and not args["replace"]:
        text = "%s: sriov_numvfs: %d VFs are there, and all go before %d are made: set replace to allow that"
        raise Refusal("ManualActionRequired", text % (address, there, args["num_vfs"]))


def _named(device):
    return {address: "VF %d of %s" % (index, device["address"]) for index, address in enumerate(device["vfs"])}


def _set_count(host, device, wanted):
    """Take the VFs away that are there, and make as many as are wanted; where that fails, as many as there were.

    Raises: Failure.
    """
    address, found = device["address"], device["num_vfs"]
    name = "%s/%s/sriov_numvfs" % (PCI_DEVICES, address)
    overrides = _overrides(host.tree, device)
    if found:
        _write_count(host, name, 0, address)
    if not wanted.num_vfs:
        return
    try:
        _make(host, address, wanted.num_vfs, wanted.drivers)
    except Failure as exc:
        if found and host.tree.read_text(name) == "0":
            _put_back(host, address, found, overrides, exc)
        raise


def _overrides(tree, device):
    """Return the driver_override of each VF that has one, by index."""
    found = {index: read_function(tree, address) for index, address in enumerate(device["vfs"])}
    held = {index: vf["driver_override"] for index, vf in found.items() if vf is not None}
    return {index: driver for index, driver in held.items() if isinstance(driver, str)}


def _make(host, address, count, drivers):
    """Make *count* VFs where there are none; *drivers* says by index who alone may take them. Raises: Failure."""
    autoprobe = "%s/%s/sriov_drivers_autoprobe" % (PCI_DEVICES, address)
    # VFs that get a driver of ours must not meet their native one first: it would, say, make net devices that udev
    # renames.
    held_off = unfinished.Attribute(host, autoprobe, "0", address) if drivers else contextlib.nullcontext()
    with held_off:
        _write_count(host, "%s/%s/sriov_numvfs" % (PCI_DEVICES, address), count, address)
        # The native driver may be loading at this moment: it gets none that has an override before it may probe.
        for index, virtual in enumerate(devices.read_present(host.tree, address)["vfs"]):
            if index in drivers:
                devices.override(host, devices.read_present(host.tree, virtual), drivers[index])
    if drivers and host.tree.read_text(autoprobe) != "0":
        for index, virtual in enumerate(devices.read_present(host.tree, address)["vfs"]):
            if index not in drivers:
                host.write_attribute(devices.DRIVERS_PROBE, virtual, virtual)


def _write_count(host, name, count, address):
    try:
        host.write_attribute(name, str(count), address)
    except Failure as exc:
        hint = next((text for error, text in HINTS.items() if "(%s)" % error in exc.message), None)
        raise Failure("%s: %s" % (exc.message, hint) if hint else exc.message) from exc


def _put_back(host, address, count, overrides, cause):
    """Make the *count* VFs again that went before *cause* came up, with the overrides that they had.

    Raises: Failure that tells of both, if that fails too.
    """
    try:
        _make(host, address, count, overrides)
        _bind(host, address, overrides)
    except (Refusal, Failure) as exc:
        raise Failure("%s; and the %d VFs that were there could not be made again: %s" % (cause, count, exc)) from exc


def _bind(host, address, drivers):
    """Give the VFs their *drivers*. Raises: Refusal, Failure."""
    virtuals = devices.read_present(host.tree, address)["vfs"]
    for index, driver in sorted(drivers.items()):
        if index >= len(virtuals):
            raise Failure("%s: VF %d is not there: the driver made %d VFs" % (address, index, len(virtuals)))
        devices.rebind(host, virtuals[index], driver)


def _verify(tree, address, wanted, after):
    """Fail when the kernel took what was written and did something else. Raises: Failure."""
    if (after["num_vfs"] or 0) != wanted.num_vfs:
        text = "%s: sriov_numvfs: %d was written without an error, and %s is there"
        raise Failure(text % (address, wanted.num_vfs, after["num_vfs"]))
    drivers = expand(after["vf_drivers"])
    for index, driver in _registered(tree, wanted):
        if drivers.get(index, devices.UNBOUND) != driver:
            found = drivers.get(index, "no driver")
            raise Failure("%s: VF %d: %s was to drive it, and %s does" % (address, index, driver, found))

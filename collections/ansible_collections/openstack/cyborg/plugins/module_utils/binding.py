# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How is a function bound to the driver that is wanted, now and at the next boot, and how does it go back to its own?

A driver of VFIO takes every function of the IOMMU group: those beside the device go to vfio-pci, unless another one of
VFIO's drivers has them, or somebody keeps drivers from them: VFIO does not mind a function without one. Called by the
module `device_binding` and by `apply`. Does I/O through `Host`.
Source: Linux, Documentation/ABI/testing/sysfs-bus-pci, ``driver_override``; Documentation/driver-api/vfio.rst.
"""

from ansible_collections.openstack.cyborg.plugins.module_utils import (
    boot,
    devices,
    guards,
    modules,
    unfinished,
    virtio,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Refusal, Result
from ansible_collections.openstack.cyborg.plugins.module_utils.persistence import read_device
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import is_unknown

ARGUMENTS = {
    "address": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "driver": {"type": "str"},
    "persist": {"type": "bool", "default": True},
    "alone": {"type": "bool", "default": False},
}


def read(tree, args):
    """Return what is there, in the words of the module's RETURN. Raises: Failure, Unreadable."""
    device = devices.read_present(tree, devices.checked_address(args["address"]))
    if is_unknown(device["driver_override"]):
        raise Failure("%s: driver_override: %s" % (device["address"], device["driver_override"]["unknown"]))
    found = {
        "driver": device["driver"],
        "driver_override": device["driver_override"],
        "boot_driver": read_device(tree, device["address"])["driver"],
    }
    if virtio.is_virtio(device):
        found["function_driver"] = device["function_driver"]
    return found


def ensure(host, args):
    """Bind the function as *args* say. Raises: Refusal, Failure, ValueError, Unreadable."""
    if args["state"] == "absent":
        return _ensure_native(host, args)
    if not args["driver"]:
        raise ValueError("%s: driver is needed: the name of a driver, or none" % args["address"])
    return _ensure_bound(host, args, devices.checked_driver(args["driver"]))


# ------------------------------------------------------------------------------------------------------------- present
def _ensure_bound(host, args, driver):
    before = read(host.tree, args)
    device = devices.read_present(host.tree, args["address"])
    on_virtio = virtio.is_virtio_driver(host, device, driver)
    pci_driver = virtio.PCI_DRIVER if on_virtio else devices.registered(host.tree, driver) or driver
    whole = devices.is_vfio(driver) and not args["alone"]
    members = devices.group_of(host.tree, device) if whole else [device["address"]]
    moved = _moved(host.tree, device["address"], members, pci_driver)
    behind = on_virtio and device["function_driver"] != driver
    boot_wanted = dict(read_device(host.tree, device["address"]), driver=driver if args["persist"] else None)
    if not moved and not behind and boot.is_persisted(host.tree, device["address"], boot_wanted):
        return Result(before, before, changed=False)
    _refuse(host, device, moved or ([device["address"]] if behind else []), driver)
    if not host.announce(before):
        after = dict(before, boot_driver=boot_wanted["driver"])
        if device["address"] in moved:
            after.update(driver=_bound(pci_driver), driver_override=pci_driver)
        if on_virtio:
            after["function_driver"] = driver
        return Result(before, after, changed=True)
    for member in moved:
        devices.rebind(host, member, pci_driver if member == device["address"] else devices.VFIO)
    unfinished.end_release(host, members)
    if on_virtio:
        virtio.bind(host, device["address"], driver)
    boot.persist(host, device["address"], boot_wanted)
    return Result(before, read(host.tree, args), changed=True)


def _bound(driver):
    return None if driver == devices.UNBOUND else driver


def _moved(tree, address, members, driver):
    """Return those of *members* that get another driver: *address* goes to *driver*, the others to one of VFIO's."""
    others = [devices.read_present(tree, one) for one in members if one != address]
    moved = [] if _is_with(tree, address, driver) else [address]
    return moved + [one["address"] for one in others if not devices.is_vfio(one["driver"]) and not _is_kept_bare(one)]


def _is_kept_bare(device):
    """Say whether an override keeps all drivers from the function: whoever wrote it wants it so."""
    return device["driver"] is None and isinstance(device["driver_override"], str)


def _is_with(tree, address, driver):
    """Say whether *driver* has the function; to have none for good takes the override too, which keeps others away."""
    device = devices.read_present(tree, address)
    return device["driver"] == _bound(driver) and (driver != devices.UNBOUND or device["driver_override"] == driver)


def _refuse(host, device, moved, driver):
    """Refuse to touch what is protected, in use or the parent of VFs. Raises: Refusal."""
    if devices.is_vfio(driver):
        devices.refuse_without_iommu(host.tree, device)
    if not moved:
        return
    for address in moved:
        count = devices.read_present(host.tree, address)["num_vfs"]
        if count:
            message = "%s: it has %s VFs, which would go with its driver: remove them first (sriov_vfs)"
            raise Refusal("DeviceInUse", message % (address, count))
    guards.refuse(host, protected=moved, held=moved)


# -------------------------------------------------------------------------------------------------------------- absent
def _ensure_native(host, args):
    """Clear the override and what persists it, and let the kernel choose the driver."""
    before = read(host.tree, args)
    device = devices.read_present(host.tree, args["address"])
    boot_wanted = dict(read_device(host.tree, device["address"]), driver=None)
    given_back = _to_give_back(host.tree, device)
    if not given_back and boot.is_persisted(host.tree, device["address"], boot_wanted):
        if not host.check:
            unfinished.end_release(host, devices.group_of(host.tree, device))
        return Result(before, before, changed=False)
    _refuse(host, device, given_back, None)
    if not host.announce(before):
        driver = modules.native_driver(host.tree, device) if given_back else before["driver"]
        return Result(before, dict(before, driver=driver, driver_override=None, boot_driver=None), changed=True)
    # First what persists: the event of the new binding would start what restores the old one.
    boot.persist(host, device["address"], boot_wanted)
    # An override that is cleared tells nobody that its function still has the old driver, or none.
    unfinished.begin_release(host, given_back)
    for address in given_back:
        devices.give_to_native(host, address)
        unfinished.end_release(host, [address])
    return Result(before, read(host.tree, args), changed=True)


def _to_give_back(tree, device):
    """Return the functions that are ours to give back: those overridden, and those that a killed process left so."""
    given_back = _overridden(tree, device)
    releases = unfinished.read_unfinished(tree)["releases"]
    left = [one for one in devices.group_of(tree, device) if one in releases and one not in given_back]
    return given_back + [one for one in left if not _is_native(tree, one)]


def _is_native(tree, address):
    device = devices.read_present(tree, address)
    return device["driver"] is not None and device["driver"] == modules.native_driver(tree, device)


def _overridden(tree, device):
    """Return the functions that an override of ours holds: the device, and the group that VFIO took with it."""
    if device["driver_override"] is None:
        return []
    if not devices.is_vfio(device["driver_override"]):
        return [device["address"]]
    others = [one for one in devices.group_of(tree, device) if one != device["address"]]
    taken = [one for one in others if _is_taken_along(tree, one)]
    return [device["address"], *taken]


def _is_taken_along(tree, address):
    """Say whether vfio-pci holds the function by an override, and nothing of its own persists that."""
    held = devices.read_present(tree, address)["driver_override"] == devices.VFIO
    return held and read_device(tree, address)["driver"] is None

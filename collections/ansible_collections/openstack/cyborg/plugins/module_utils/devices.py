# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How is a PCI function bound, unbound, loaded for and offered to drivers, and when must it be left alone?

Called by `sriov` and `binding`. Does I/O through `Host`.
Source: Linux, Documentation/ABI/testing/sysfs-bus-pci.
"""

import re

from ansible_collections.openstack.cyborg.plugins.module_utils import modules
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Refusal
from ansible_collections.openstack.cyborg.plugins.module_utils.pci import read_function
from ansible_collections.openstack.cyborg.plugins.module_utils.topology import PCI_DEVICES
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import is_unknown

DRIVERS = "/sys/bus/pci/drivers"
DRIVERS_PROBE = "/sys/bus/pci/drivers_probe"
ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]\Z")
DRIVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}\Z")
#: What no driver is called; as an override it keeps every driver away.
UNBOUND = "none"
#: A driver that was about to take a function when the override came lets go of it at once; the next attempt meets none.
BIND_ATTEMPTS = 3
VFIO = "vfio-pci"
#: What the names of VFIO's drivers end in, those that know one device too: mlx5_vfio_pci, nvgrace-gpu-vfio-pci.
#: Source: Linux, drivers/vfio/pci.
VFIO_ENDINGS = ("vfio-pci", "vfio_pci")
#: Host and PCI-to-PCI bridges stay with their own drivers. Source: Linux, drivers/vfio, ``vfio_dev_driver_allowed``.
BRIDGES = ("0600", "0604", "0609")


def checked_address(address):
    """Return *address*. Raises: ValueError."""
    if not ADDRESS.match(address):
        raise ValueError("%r is no PCI address: write it as 0000:3b:00.0, in lower case" % address)
    return address


def checked_driver(driver):
    """Return *driver*, the name of a driver or ``none``. Raises: ValueError."""
    if not DRIVER.match(driver):
        raise ValueError("%r is no name of a driver" % driver)
    return driver


def is_vfio(driver):
    """Say whether *driver* hands a function over to user programs, which takes its whole IOMMU group."""
    return driver is not None and driver.endswith(VFIO_ENDINGS)


def read_present(tree, address):
    """Return the facts of the function at *address*. Raises: Failure where there is none, or no telling."""
    found = read_function(tree, address)
    if found is None:
        raise Failure("%s: there is no such device (%s/%s)" % (address, PCI_DEVICES, address))
    for fact in ("driver", "iommu_group"):
        if is_unknown(found[fact]):
            raise Failure("%s: %s: %s" % (address, fact, found[fact]["unknown"]))
    return found


def group_of(tree, device):
    """Return the addresses of the IOMMU group of *device* that VFIO takes: all but bridges."""
    names = tree.listdir("%s/%s/iommu_group/devices" % (PCI_DEVICES, device["address"])) or [device["address"]]
    kinds = {name: str((read_function(tree, name) or {}).get("class_id", "")) for name in names}
    return [name for name in names if name == device["address"] or not kinds[name].startswith(BRIDGES)]


def refuse_without_iommu(tree, device):
    """Refuse VFIO where nothing separates the device's memory accesses. Raises: Refusal."""
    if device["iommu_group"] is None and not tree.listdir("/sys/kernel/iommu_groups"):
        message = "%s: vfio-pci needs the IOMMU, which is off: set intel_iommu=on or amd_iommu=on, and reboot"
        raise Refusal("KernelUnsupported", message % device["address"])


def override(host, device, driver):
    """Let no driver but *driver* take the function; None lets the kernel choose. Raises: Failure."""
    if device["driver_override"] != driver:
        name = "%s/%s/driver_override" % (PCI_DEVICES, device["address"])
        host.write_attribute(name, "\n" if driver is None else driver, device["address"])


def rebind(host, address, driver):
    """Bind the function at *address* to *driver* (``none``: to nothing) by an override. Raises: Refusal, Failure.

    A module's name is as good as its driver's.

    A driver that does not take the function leaves it with the one that it had. Udev may be loading the native driver
    of a function that has just appeared; once the override stands no other driver takes it, so who has it is read anew.
    """
    before = read_present(host.tree, address)
    wanted = None if driver == UNBOUND else driver
    if wanted:
        wanted = driver = load_driver(host, driver, before)
    override(host, before, driver)
    found = read_present(host.tree, address)
    for _attempt in range(BIND_ATTEMPTS):
        if found["driver"] == wanted:
            return
        _unbind(host, found)
        if wanted:
            host.write_attribute(DRIVERS_PROBE, address, address)
        found = read_present(host.tree, address)
    if found["driver"] != wanted:
        _give_back(host, found, before)
        message = "%s: drivers_probe: %s did not take the device, which is with %s again; the kernel's log says why"
        raise Failure(message % (address, driver, before["driver"] or "no driver"))


def give_to_native(host, address):
    """Clear the override of the function at *address* and let the kernel choose its driver. Raises: Failure."""
    device = read_present(host.tree, address)
    override(host, device, None)
    _unbind(host, device)
    host.write_attribute(DRIVERS_PROBE, address, address)
    if read_present(host.tree, address)["driver"] is None and isinstance(device["modalias"], str):
        modules.load_alias(host, device["modalias"])
        host.write_attribute(DRIVERS_PROBE, address, address)


def _unbind(host, device):
    """Take the function from its driver, unless that has let go of it meanwhile. Raises: Failure."""
    address, driver = device["address"], device["driver"]
    if not driver:
        return
    try:
        host.write_attribute("%s/%s/unbind" % (DRIVERS, driver), address, address)
    except Failure:
        if read_present(host.tree, address)["driver"] == driver:
            raise


def _give_back(host, device, before):
    """Put the function back to how it was *before*, as far as the kernel lets us."""
    override(host, device, before["driver_override"] if isinstance(before["driver_override"], str) else None)
    if before["driver"] and device["driver"] != before["driver"]:
        _unbind(host, device)
        host.write_attribute(DRIVERS_PROBE, device["address"], device["address"])


def registered(tree, name):
    """Return the PCI driver that *name* is the name of, or whose module it is the name of; None where there is none.

    qat_4xxx is the module of the driver 4xxx: which it is shows once the module is loaded. Raises: Failure.
    Source: Linux, drivers/base/module.c, ``module_add_driver``.
    """
    if tree.exists("%s/%s" % (DRIVERS, name)):
        return name
    found = modules.pci_drivers(tree, name)
    if len(found) > 1:
        message = "the module %s has the drivers %s: say which of them"
        raise Failure(message % (name, " and ".join(found)))
    return found[0] if found else None


def load_driver(host, driver, device):
    """See to it that there is a PCI driver of this name: by its own name, then by what the device asks for.

    Returns: what the kernel calls it, where *driver* is the name of its module.
    Raises: Refusal (SecureBootUnsigned); Failure.
    """
    found = registered(host.tree, driver)
    if found is not None:
        return found
    said = ""
    try:
        modules.load(host, driver)
    except Failure as exc:  # a driver's name need not be its module's: 4xxx is the driver of qat_4xxx
        said = exc.message
    found = registered(host.tree, driver)
    if found is None and isinstance(device["modalias"], str):
        modules.load_alias(host, device["modalias"])
        found = registered(host.tree, driver)
    if found is None:
        place = "%s/%s" % (DRIVERS, driver)
        message = "%s: there is no driver %s (%s)%s" % (device["address"], driver, place, ": " + said if said else "")
        raise Failure(message)
    return found

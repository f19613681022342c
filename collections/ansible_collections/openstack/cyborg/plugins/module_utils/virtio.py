# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How is a virtio function bound, whose PCI driver is virtio-pci and whose real one sits on the virtio bus behind it?

Called by `binding`. Does I/O through `Host`. Source: Linux, Documentation/driver-api/virtio/virtio.rst.
"""

import re

from ansible_collections.openstack.cyborg.plugins.module_utils import modules
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure
from ansible_collections.openstack.cyborg.plugins.module_utils.topology import PCI_DEVICES

#: Red Hat's id, by which all virtio functions go. Source: Virtual I/O Device (VIRTIO) 1.2, section 4.1.2.
VENDOR = "1af4"
PCI_DRIVER = "virtio-pci"
DRIVERS = "/sys/bus/virtio/drivers"
CHILD = re.compile(r"virtio\d+\Z")


def is_virtio(device):
    """Say whether the function is a virtio device."""
    return device["vendor_id"] == VENDOR


def is_virtio_driver(host, device, driver):
    """Say whether *driver* is one of the virtio bus, as virtio_crypto is, registered or on disk."""
    if not is_virtio(device) or not driver.startswith("virtio_"):
        return False
    return host.tree.exists("%s/%s" % (DRIVERS, driver)) or modules.is_on_disk(host.tree, driver)


def bind(host, address, driver):
    """Bind what is behind the function at *address* to *driver* of the virtio bus. Raises: Failure."""
    if not host.tree.exists("%s/%s" % (DRIVERS, driver)):
        modules.load(host, driver)  # which also binds what it finds unbound
    names = [name for name in host.tree.listdir("%s/%s" % (PCI_DEVICES, address)) or () if CHILD.match(name)]
    if not names:
        raise Failure("%s: nothing is on the virtio bus behind it, although virtio-pci is bound" % address)
    place = "%s/%s/%s/driver" % (PCI_DEVICES, address, names[0])
    bound = host.tree.link_name(place)
    if bound == driver:
        return
    if bound:
        host.write_attribute("%s/%s/unbind" % (DRIVERS, bound), names[0], address)
    host.write_attribute("%s/%s/bind" % (DRIVERS, driver), names[0], address)

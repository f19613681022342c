#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: device_binding
short_description: Bind a PCI function to a driver
description:
  - Binds a function to a driver of choice by C(driver_override), and sees to it that the next boot does so again
    (udev, systemd).
  - For V(vfio-pci) every function of the IOMMU group is bound, but bridges.
  - A driver that does not take the device leaves it with the one that it had.
author:
  - Cyborg Reconciler contributors (@openstack)
version_added: 0.1.0
extends_documentation_fragment:
  - openstack.cyborg.host
  - openstack.cyborg.host.connection
  - openstack.cyborg.host.lock
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: linux
notes:
  - Needs root on the host (C(become)).
  - A device is refused that carries the root disk, the default route or this connection, or of which that cannot be
    told.
options:
  address:
    description: PCI address of the function, such as V(0000:3b:00.0).
    type: str
    required: true
  state:
    description: V(absent) gives the function back to the driver that the kernel chooses for it.
    type: str
    choices: [present, absent]
    default: present
  driver:
    description:
      - The driver, or its module, V(qat_4xxx) for V(4xxx); V(none) leaves the function without.
      - For a virtio function, V(virtio-pci), or a driver of the virtio bus such as V(virtio_crypto).
      - Needed for O(state=present).
    type: str
  persist:
    description: Whether the next boot binds the function again. V(false) takes away what does.
    type: bool
    default: true
  alone:
    description:
      - Whether a driver of VFIO gets this function and not the rest of its IOMMU group.
      - A virtual machine cannot use the function then; it is for putting back what somebody had.
    type: bool
    default: false
seealso:
  - module: openstack.cyborg.sriov_vfs
"""

EXAMPLES = r"""
- name: Hand the card to virtual machines
  openstack.cyborg.device_binding:
    address: "0000:81:00.0"
    driver: vfio-pci

- name: Give it back to its own driver
  openstack.cyborg.device_binding:
    address: "0000:81:00.0"
    state: absent
"""

RETURN = r"""
before:
  description: What was there.
  returned: success
  type: dict
  sample: {driver: nvidia, driver_override: null, boot_driver: null}
after:
  description: What is there now; in check mode, what would be.
  returned: success
  type: dict
  sample: {driver: vfio-pci, driver_override: vfio-pci, boot_driver: vfio-pci}
reboot_required:
  description: Whether what is configured takes effect with a boot only.
  returned: success
  type: bool
  sample: false
reason:
  description: Why the change was refused, as one word.
  returned: when refused
  type: str
  sample: DeviceInUse
holders:
  description: Who holds what was to be changed.
  returned: when refused
  type: list
  elements: dict
  sample:
    - {kind: process, name: qemu-system-x86, pid: 4711, detail: /dev/vfio/12}
"""

from ansible_collections.openstack.cyborg.plugins.module_utils import binding, state_module


def main():
    """Run the module."""
    state_module.run(binding)


if __name__ == "__main__":
    main()

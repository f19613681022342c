#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: sriov_vfs
short_description: Make the virtual functions of an SR-IOV device
description:
  - Sets how many virtual functions (VFs) a physical function (PF) has and which drivers they are bound to, and sees
    to it that the next boot makes them so again (udev, systemd).
  - The kernel removes all VFs before it makes another number of them. That is done with O(replace) only, and never
    when one of the VFs is in use.
  - VFs that get a driver here do not meet their native driver before (C(sriov_drivers_autoprobe)).
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
    description: PCI address of the PF, such as V(0000:3b:00.0).
    type: str
    required: true
  state:
    description: V(absent) removes all VFs and what makes them at boot.
    type: str
    choices: [present, absent]
    default: present
  num_vfs:
    description: How many VFs there shall be. As many as there are when it is left out.
    type: int
  vf_driver:
    description: Driver of all VFs that O(groups) does not name; V(none) leaves them without.
    type: str
  groups:
    description: Drivers of some of the VFs.
    type: list
    elements: dict
    suboptions:
      vfs:
        description: One VF or a range of them, counted from 0, such as V(5) or V(0-3).
        type: str
        required: true
      driver:
        description: Their driver; V(none) leaves them without.
        type: str
        required: true
  replace:
    description: Whether VFs that are there may be removed to make another number of them.
    type: bool
    default: false
  persist:
    description: Whether the next boot makes the VFs again. V(false) takes away what does.
    type: bool
    default: true
seealso:
  - module: openstack.cyborg.device_binding
"""

EXAMPLES = r"""
- name: Give virtual machines four VFs of the NIC, now and after every boot
  openstack.cyborg.sriov_vfs:
    address: "0000:3b:00.0"
    num_vfs: 4
    vf_driver: vfio-pci

- name: Keep two for the host
  openstack.cyborg.sriov_vfs:
    address: "0000:3b:00.0"
    num_vfs: 4
    groups:
      - vfs: 0-1
        driver: igbvf
      - vfs: 2-3
        driver: vfio-pci
    replace: true

- name: Remove them all
  openstack.cyborg.sriov_vfs:
    address: "0000:3b:00.0"
    state: absent
"""

RETURN = r"""
before:
  description: What was there.
  returned: success
  type: dict
  sample: {num_vfs: 0, vf_drivers: [], boot_num_vfs: null, boot_vf_drivers: []}
after:
  description: What is there now; in check mode, what would be.
  returned: success
  type: dict
  sample:
    num_vfs: 4
    vf_drivers: [{vfs: 0-3, driver: vfio-pci}]
    boot_num_vfs: 4
    boot_vf_drivers: [{vfs: 0-3, driver: vfio-pci}]
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

from ansible_collections.openstack.cyborg.plugins.module_utils import sriov, state_module


def main():
    """Run the module."""
    state_module.run(sriov)


if __name__ == "__main__":
    main()

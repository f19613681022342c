#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: kernel_facts
short_description: Read the kernel arguments and the boot configuration of a host
version_added: 0.1.0
description:
  - Reads the kernel arguments as configured, of the entry that boots next, and running; the kernels that are
    installed; and whether IOMMU, Secure Boot and lockdown are on.
  - Reads only; nothing is written.
  - What is absent is null. What could not be read is a dictionary with the key C(unknown), which says why; it is never
    taken for absent.
  - Strings that devices report are data; control characters in them are escaped.
author:
  - Cyborg Reconciler contributors (@openstack)
extends_documentation_fragment:
  - openstack.cyborg.host
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.facts
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  facts:
    support: full
  platform:
    platforms: linux
notes:
  - Boot loaders other than GRUB 2 are not understood; the arguments of the next boot are then unknown.
seealso:
  - module: openstack.cyborg.accelerator_facts
  - module: openstack.cyborg.driver_facts
  - module: openstack.cyborg.host_facts
"""

EXAMPLES = r"""
- name: Read the kernel's configuration
  openstack.cyborg.kernel_facts:
  become: true

- name: Insist on an IOMMU
  ansible.builtin.assert:
    that: cyborg_kernel.iommu_enabled is true
    fail_msg: "Started with {{ cyborg_kernel.args_running }}"
"""

RETURN = r"""
ansible_facts:
  description: Facts to add.
  returned: always
  type: dict
  contains:
    cyborg_kernel:
      description: The kernel and its configuration.
      returned: always
      type: dict
      contains:
        release:
          description: Release of the running kernel.
          type: str
          returned: always
          sample: 6.1.0-26-amd64
        boot_id:
          description: Another one with each boot.
          type: str
          returned: always
        boot_loader:
          description: C(grub), or C(grub-bls) where entries of the Boot Loader Specification hold the arguments.
          type: str
          returned: always
        args_configured:
          description: Kernel arguments as configured for GRUB 2, for kernels that are installed later too. Those of
            C(/etc/kernel/cmdline) where it exists, except on the Debian family.
          type: list
          elements: str
          returned: always
          sample: [quiet, intel_iommu=on]
        args_next_boot:
          description: Kernel arguments of the entry that boots next.
          type: list
          elements: str
          returned: always
        args_running:
          description: Kernel arguments of the running kernel.
          type: list
          elements: str
          returned: always
        kernels:
          description: Installed kernels, and whether headers and an initramfs are there.
          type: list
          elements: dict
          returned: always
        iommu_enabled:
          description: Whether the kernel runs with an IOMMU.
          type: bool
          returned: always
        secure_boot:
          description: Whether Secure Boot is on; null without UEFI.
          type: bool
          returned: always
        lockdown:
          description: Lockdown mode of the kernel.
          type: str
          returned: always
        os_family:
          description: C(debian), C(redhat), C(suse) and so on; likewise RV(ignore:os_id) and RV(ignore:os_version).
          type: str
          returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_kernel
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable


def main():
    """Read, and say what was read."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        tree = Tree(options["root"])
        found = gather_kernel(tree)
    except (Unreadable, OSError) as exc:
        module.fail_json(msg=f"{exc}")
    module.exit_json(ansible_facts={"cyborg_kernel": found})


if __name__ == "__main__":
    main()

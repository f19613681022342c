#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: accelerator_facts
short_description: Read the PCI functions of a host
version_added: 0.1.0
description:
  - Reads every PCI function; ids, driver, IOMMU group, VFs, link, serial number, what it offers, who uses it, and
    whether it carries the root disk, the default route or this connection.
  - Reads only; nothing is loaded, bound or written.
  - What is absent is null. What could not be read is a dictionary with the key C(unknown), which says why; it is never
    taken for absent.
  - Strings that devices report are data; control characters in them are escaped.
author:
  - Cyborg Reconciler contributors (@openstack)
extends_documentation_fragment:
  - openstack.cyborg.host
  - openstack.cyborg.host.connection
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
  - Some of it only root may read, such as who has device nodes open, and the serial numbers of cards; use C(become).
  - Vital Product Data are read of network, display, encryption and processing functions and of NVMe alone, 2 KiB at
    most, since reading them is slow on some cards. Of others that have some, the serial number is unknown.
seealso:
  - module: openstack.cyborg.driver_facts
  - module: openstack.cyborg.kernel_facts
  - module: openstack.cyborg.host_facts
"""

EXAMPLES = r"""
- name: Read the PCI functions
  openstack.cyborg.accelerator_facts:
  become: true

- name: Name the GPUs that nobody uses
  ansible.builtin.debug:
    msg: "{{ cyborg_accelerators.devices | selectattr('class_id', 'match', '03') | selectattr('holders', 'equalto', [])
      | map(attribute='address') }}"
"""

RETURN = r"""
ansible_facts:
  description: Facts to add.
  returned: always
  type: dict
  contains:
    cyborg_accelerators:
      description: The PCI functions.
      returned: always
      type: dict
      contains:
        facts_version:
          description: Version of the document's shape.
          type: int
          returned: always
        devices:
          description: The functions, by address.
          type: list
          elements: dict
          returned: always
          contains:
            address:
              description: Full address, with the domain.
              type: str
              returned: always
              sample: 0000:3b:00.0
            vendor_id:
              description: Four hex digits; likewise RV(ignore:product_id), RV(ignore:subsystem_vendor_id) and
                RV(ignore:subsystem_id).
              type: str
              returned: always
              sample: "8086"
            class_id:
              description: Base class, subclass and programming interface.
              type: str
              returned: always
              sample: "020000"
            driver:
              description: What the function is bound to.
              type: str
              returned: always
              sample: igb
            function_driver:
              description: The driver on the virtio bus behind a function that is bound to virtio-pci.
              type: str
              returned: always
              sample: virtio_crypto
            modules:
              description: Kernel modules on disk that match the function, best first.
              type: list
              elements: str
              returned: always
            iommu_group:
              description: Number of the IOMMU group; RV(ignore:iommu_members) are all functions in it.
              type: int
              returned: always
            total_vfs:
              description: How many VFs the function can have; RV(ignore:num_vfs) is how many it has, RV(ignore:vfs)
                their addresses by index. RV(ignore:vf_autoprobe) is false while drivers are kept from new VFs, which a
                run does that makes some, and which one that was killed leaves behind until the next change.
              type: int
              returned: always
            boot_num_vfs:
              description: How many VFs it gets at boot; likewise RV(ignore:boot_vf_drivers) and RV(ignore:boot_driver).
              type: int
              returned: always
            holders:
              description: Who uses the function now; processes, mounts, net devices.
              type: list
              elements: dict
              returned: always
            protected:
              description:
                - Why it must not be touched.
                - Reasons are C(root_disk), C(default_route), C(connection), and C(unknown) where that could not be
                  found out.
              type: list
              elements: dict
              returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import FACTS_VERSION, gather_devices
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable


def main():
    """Read, and say what was read."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "connection": {"type": "str", "choices": ["ssh", "local"]},
            "peer": {"type": "str"},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        tree = Tree(options["root"])
        found = gather_devices(tree, connection=options["connection"], peer=options["peer"])
    except (Unreadable, OSError) as exc:
        module.fail_json(msg=f"{exc}")
    module.exit_json(ansible_facts={"cyborg_accelerators": {"facts_version": FACTS_VERSION, "devices": found}})


if __name__ == "__main__":
    main()

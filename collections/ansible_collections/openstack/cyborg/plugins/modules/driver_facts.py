#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: driver_facts
short_description: Read the kernel modules behind the devices of a host
version_added: 0.1.0
description:
  - Reads the kernel modules that are bound to PCI functions or match them, as they are loaded, as they lie on disk and
    as they were installed, with versions, parameters, signers and users; the state of DKMS for each kernel; and what
    modprobe.d and modules-load.d say.
  - Reads only; nothing is loaded or written.
  - What is absent is null. What could not be read is a dictionary with the key C(unknown), which says why; it is never
    taken for absent.
  - Strings that devices report are data; control characters in them are escaped.
author:
  - Cyborg Reconciler contributors (@openstack)
extends_documentation_fragment:
  - openstack.cyborg.host
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.facts
options:
  modules:
    description:
      - Names of further kernel modules that are of interest.
      - Those that are bound to a PCI function, or match one, and those that this collection configures, are told
        anyway.
    type: list
    elements: str
    default: []
  packages:
    description:
      - Whether to say which package of the distribution, or of DKMS, installed each module, and in which version.
      - It takes some milliseconds with dpkg, whose files are read, and a call of C(rpm) elsewhere.
    type: bool
    default: true
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
seealso:
  - module: openstack.cyborg.accelerator_facts
  - module: openstack.cyborg.kernel_facts
  - module: openstack.cyborg.host_facts
"""

EXAMPLES = r"""
- name: Read the kernel modules
  openstack.cyborg.driver_facts:
    modules: [nvidia]
  become: true

- name: Name the modules that were updated on disk and not reloaded
  ansible.builtin.debug:
    msg: "{{ item.name }} runs {{ item.loaded_srcversion }}, on disk is {{ item.disk_srcversion }}"
  loop: "{{ cyborg_drivers.modules | selectattr('loaded') }}"
  when: item.loaded_srcversion != item.disk_srcversion
"""

RETURN = r"""
ansible_facts:
  description: Facts to add.
  returned: always
  type: dict
  contains:
    cyborg_drivers:
      description: The kernel modules and their configuration.
      returned: always
      type: dict
      contains:
        modules:
          description: Kernel modules as loaded, as they lie on disk, with versions, parameters, signer, users and
            devices.
          type: list
          elements: dict
          returned: always
          contains:
            name:
              description: The module, with underscores.
              type: str
              returned: always
            loaded_version:
              description: What the loaded module says of its version.
              type: str
              returned: always
            disk_version:
              description: What the file says that would be loaded.
              type: str
              returned: always
            package:
              description: The package that installed that file; null where none did.
              type: str
              returned: when O(packages=true)
              sample: linux-image-6.1.0-28-amd64
            installed_version:
              description: The version of that package.
              type: str
              returned: when O(packages=true)
              sample: 6.1.119-1
            installed_by:
              description: What installed it, V(dpkg), V(rpm) or V(dkms).
              type: str
              returned: when O(packages=true)
        dkms:
          description: Builds of DKMS, for each kernel.
          type: list
          elements: dict
          returned: always
        blacklisted:
          description: Modules that modprobe.d or the kernel's command line keeps out.
          type: list
          elements: str
          returned: always
        options:
          description: Options of modules in modprobe.d.
          type: dict
          returned: always
        load:
          description: Modules that modules-load.d loads at boot.
          type: list
          elements: str
          returned: always
        initramfs_due:
          description: Modules whose blacklist or options were changed by a run that was killed before it had built the
            initial RAM disk anew. M(openstack.cyborg.kernel_module) for the same module builds it.
          type: list
          elements: str
          returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_drivers
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable


def main():
    """Read, and say what was read."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "modules": {"type": "list", "elements": "str", "default": []},
            "packages": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        tree = Tree(options["root"])
        found = gather_drivers(tree, modules=options["modules"], packages=options["packages"])
    except (Unreadable, OSError) as exc:
        module.fail_json(msg=f"{exc}")
    module.exit_json(ansible_facts={"cyborg_drivers": found})


if __name__ == "__main__":
    main()

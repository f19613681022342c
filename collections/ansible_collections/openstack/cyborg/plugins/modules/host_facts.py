#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: host_facts
short_description: Read everything about the accelerators of a host in one call
version_added: 0.1.0
description:
  - Reads in one call what M(openstack.cyborg.accelerator_facts), M(openstack.cyborg.driver_facts) and
    M(openstack.cyborg.kernel_facts) read, with the record of what this collection owns on the host and a fingerprint.
  - Reads only; nothing is loaded or bound, and no setting is written.
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
      - Off here, since nothing is decided by it and it costs a call of C(rpm) where there is no dpkg.
    type: bool
    default: false
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
  - Keeps its compiled code in C(~/.cache/openstack.cyborg/) of the user that it runs as, where nobody else can write,
    so that the next look costs the host a fifth less. The environment variable C(PYTHONDONTWRITEBYTECODE) forbids
    that; the task's C(environment) can set it.
  - Some of it only root may read, such as who has device nodes open, and the serial numbers of cards; use C(become).
seealso:
  - module: openstack.cyborg.accelerator_facts
  - module: openstack.cyborg.driver_facts
  - module: openstack.cyborg.kernel_facts
"""

EXAMPLES = r"""
- name: Read everything
  openstack.cyborg.host_facts:
  become: true

- name: Name the devices that must not be touched
  ansible.builtin.debug:
    msg: "{{ cyborg_facts.devices | selectattr('protected') | map(attribute='address') }}"
"""

RETURN = r"""
ansible_facts:
  description: Facts to add.
  returned: always
  type: dict
  contains:
    cyborg_facts:
      description: The facts document.
      returned: always
      type: dict
      contains:
        facts_version:
          description: Version of the document's shape.
          type: int
          returned: always
        hostname:
          description: Name of the host; RV(ignore:machine_id) and RV(ignore:system_uuid) stand beside it.
          type: str
          returned: always
        devices:
          description: As M(openstack.cyborg.accelerator_facts) returns them.
          type: list
          elements: dict
          returned: always
        drivers:
          description: As M(openstack.cyborg.driver_facts) returns them.
          type: dict
          returned: always
        kernel:
          description: As M(openstack.cyborg.kernel_facts) returns them.
          type: dict
          returned: always
        ownership:
          description: Which controller set what on this host, and how it was before; null where none did.
          type: dict
          returned: always
        fingerprint:
          description: A digest of all that is stable; holders, link speeds and this connection do not count.
          type: str
          returned: always
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.openstack.cyborg.plugins.module_utils.compiled import remembered


def main():
    """Read, and say what was read."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "connection": {"type": "str", "choices": ["ssh", "local"]},
            "peer": {"type": "str"},
            "modules": {"type": "list", "elements": "str", "default": []},
            "packages": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = dict(module.params)
    with remembered("host_facts"):
        from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
        from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable

        try:
            tree = Tree(options.pop("root"))
            found = gather(tree, **options)
        except (Unreadable, OSError) as exc:
            module.fail_json(msg=f"{exc}")
    module.exit_json(ansible_facts={"cyborg_facts": found})


if __name__ == "__main__":
    main()

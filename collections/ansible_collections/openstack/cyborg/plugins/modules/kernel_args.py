#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: kernel_args
short_description: Set arguments of the kernel for the next boot
description:
  - Sets arguments in the configuration of GRUB 2, on the Debian family in a drop-in of its own (and C(update-grub)),
    on the RHEL family with C(grubby), in C(/etc/default/grub) and, where it exists, in C(/etc/kernel/cmdline), from
    which kernels that are installed later take theirs.
  - An argument that the operator configured himself with the value that is wanted is left alone. Another value of his
    gives way, and counts again once the argument is no longer wanted here.
  - Arguments of other names that were set by an earlier call stay until O(absent) names them.
  - Nothing is run when nothing changes. The module never reboots.
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
  args:
    description:
      - Arguments by name. A value is text, V(true) for a word without value, or a list where each occurrence counts
        (C(console)). With text the last occurrence counts, as for the kernel.
      - In names C(-) and C(_) are the same.
      - Values are ASCII without quotes, backquotes, backslashes and C($).
    type: dict
    default: {}
  absent:
    description: Names of arguments that shall no longer be set here. What the operator configured himself stays.
    type: list
    elements: str
    default: []
seealso:
  - module: ansible.builtin.reboot
"""

EXAMPLES = r"""
- name: Turn the IOMMU on
  openstack.cyborg.kernel_args:
    args:
      intel_iommu: "on"
      iommu: pt
  register: arguments

- name: Reboot when the running kernel has others
  ansible.builtin.reboot:
  when: arguments.reboot_required
"""

RETURN = r"""
before:
  description:
    - What the next boot and the running kernel had of the arguments that were asked for; null is none.
    - C(new_kernels) says what kernels get that are installed later; it is there where C(/etc/kernel/cmdline) is.
  returned: success
  type: dict
  sample: {next_boot: {intel_iommu: null}, running: {intel_iommu: null}}
after:
  description: What they have now; in check mode, what they would have.
  returned: success
  type: dict
  sample: {next_boot: {intel_iommu: "on"}, running: {intel_iommu: null}}
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

from ansible_collections.openstack.cyborg.plugins.module_utils import bootargs, state_module


def main():
    """Run the module."""
    state_module.run(bootargs)


if __name__ == "__main__":
    main()

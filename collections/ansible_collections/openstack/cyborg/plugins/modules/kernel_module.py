#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: kernel_module
short_description: Load a kernel module or keep it out, with options, now and at boot
description:
  - Loads or unloads a module, has it loaded at boot, blacklists it and sets its options in files of its own below
    C(/etc/modprobe.d) and C(/etc/modules-load.d). Other files are left as they are; what they say already is not said
    again.
  - A module that is in use is not unloaded, and the message says by whom it is held. One that is not signed is not
    tried where the kernel asks for signatures.
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
  name:
    description: The module, with C(-) or C(_).
    type: str
    required: true
  state:
    description: Whether the module shall be loaded now. As it is when it is left out.
    type: str
    choices: [loaded, unloaded]
  boot:
    description: Whether it shall be loaded at every boot (C(modules-load.d)). As it is when it is left out.
    type: bool
  blacklisted:
    description: Whether it shall be kept from being loaded for a device. As it is when it is left out.
    type: bool
  options:
    description:
      - Options by name. One that is null is no longer set here. In names C(-) and C(_) are the same.
      - Values are compared as the kernel reads them, V(Y), V(1) and V(on), or V(16) and V(0x10), being one, also in
        lists. What is configured and means the same is left as it is written.
    type: dict
    default: {}
  update_initramfs:
    description:
      - V(auto) builds the initial RAM disk anew after a change of blacklist or options, where the module is in it or
        drives displays, so that the next boot obeys from its very beginning.
    type: str
    choices: [auto, never]
    default: auto
seealso:
  - module: openstack.cyborg.kernel_args
"""

EXAMPLES = r"""
- name: Keep nouveau from the GPUs
  openstack.cyborg.kernel_module:
    name: nouveau
    state: unloaded
    blacklisted: true

- name: Load vfio-pci now and at boot
  openstack.cyborg.kernel_module:
    name: vfio-pci
    state: loaded
    boot: true
    options:
      disable_vga: 1
"""

RETURN = r"""
before:
  description:
    - What was there. C(initramfs_due) says that an earlier run was cut short before it had built the initial RAM disk.
  returned: success
  type: dict
  sample: {loaded: true, boot: false, blacklisted: false, options: {}, initramfs_due: false}
after:
  description: What is there now; in check mode, what would be.
  returned: success
  type: dict
  sample: {loaded: false, boot: false, blacklisted: true, options: {}, initramfs_due: false}
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

from ansible_collections.openstack.cyborg.plugins.module_utils import kernel_modules, state_module


def main():
    """Run the module."""
    state_module.run(kernel_modules)


if __name__ == "__main__":
    main()

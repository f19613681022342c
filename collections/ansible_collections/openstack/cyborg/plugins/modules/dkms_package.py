#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: dkms_package
short_description: Build a kernel module on the host from a source tree on the controller
version_added: 0.1.0
description:
  - Brings a source tree with a C(dkms.conf) to the host as C(/usr/src/NAME-VERSION) and has DKMS build and install it
    for the kernel that runs and for the one that boots next; DKMS does the same for kernels that are installed later.
  - The source travels only when the host has another one or none. When it changes, it is built anew.
  - Versions of the package that this module has put there before go with the new one.
  - Nothing is loaded or unloaded; M(openstack.cyborg.kernel_module) does that.
author:
  - Cyborg Reconciler contributors (@openstack)
extends_documentation_fragment:
  - openstack.cyborg.host
  - openstack.cyborg.host.connection
  - openstack.cyborg.host.lock
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.flow
attributes:
  action:
    support: full
  async:
    support: none
  bypass_host_loop:
    support: none
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: linux
notes:
  - Needs root on the host (C(become)).
  - Needs dkms, a compiler and the headers of each kernel there. Missing headers are named, and nothing is tried.
options:
  name:
    description: The package, as C(PACKAGE_NAME) in its C(dkms.conf).
    type: str
    required: true
  version:
    description:
      - Its version. Taken from C(PACKAGE_VERSION) in C(dkms.conf) when it is left out.
      - With O(state=absent), every version that this module has put there when it is left out.
    type: str
  state:
    description: Whether the package shall be there.
    type: str
    choices: [present, absent]
    default: present
  source:
    description: Folder of the source on the controller. Needed for O(state=present).
    type: path
  kernels:
    description:
      - Releases of the kernels to build for.
      - The running one and, where its headers are there, the next one when it is left out.
    type: list
    elements: str
  digest:
    description: Digest of the source. Set by the controller's half of this module.
    type: str
  archive:
    description: Archive of the source on the host. Set by the controller's half of this module.
    type: path
seealso:
  - module: openstack.cyborg.kernel_module
"""

EXAMPLES = r"""
- name: Build and install the driver
  openstack.cyborg.dkms_package:
    name: edu_lab
    source: drivers/edu_lab

- name: Load it, now and at boot
  openstack.cyborg.kernel_module:
    name: edu_lab
    state: loaded
    boot: true
"""

RETURN = r"""
before:
  description: What DKMS had of the package.
  returned: success
  type: dict
  sample: {builds: []}
after:
  description: What it has now; in check mode, what it would have.
  returned: success
  type: dict
  sample:
    builds:
      - {version: "1.0", kernel: 6.1.0-28-amd64, state: installed}
reboot_required:
  description: Always false.
  returned: success
  type: bool
  sample: false
reason:
  description: Why the change was refused, as one word.
  returned: when refused
  type: str
  sample: KernelUnsupported
"""

from ansible_collections.openstack.cyborg.plugins.module_utils import dkms_package, state_module


def main():
    """Run the module."""
    state_module.run(dkms_package)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The code is in plugins/action/apply_plan.py, which runs on the controller.

DOCUMENTATION = r"""
module: apply_plan
short_description: Walk the plan of one host, up to the next role of a driver
version_added: 0.1.0
description:
  - Reads a plan on the controller, picks the segments of this host by its name in the inventory and walks them in
    their order. Steps are applied on the host in one call (M(openstack.cyborg.apply_actions)), reboots are done in
    place, and at the role of a driver the walk stops and says so.
  - Use the role P(openstack.cyborg.apply#role), which includes the roles and goes on after each.
  - Nothing in a plan is ever treated as a template.
author:
  - Cyborg Reconciler contributors (@openstack)
extends_documentation_fragment:
  - openstack.cyborg.host
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
    description: A reboot is not tried in check mode, nor what comes after it.
  diff_mode:
    support: full
  platform:
    platforms: linux
notes:
  - Needs root on the host (C(become)).
options:
  plan:
    description: The plan, base64 of its JSON. One of O(plan) and O(plan_file) is needed.
    type: str
  plan_file:
    description: The plan as a file on the controller, relative to the folder where Ansible was started.
    type: path
  from_segment:
    description: Index of the segment to begin with.
    type: int
    default: 0
  allow_reboot:
    description:
      - Whether the host may be rebooted where its plan says so. Without it such a plan is refused when it gets there.
    type: bool
    default: false
  peer:
    description: The IP address at the other end of the connection, as the host sees it, where it cannot find that out.
    type: str
  so_far:
    description: What an earlier call returned; the outcome goes on from there.
    type: dict
  role_done:
    description: Index of the segment whose role has run since the earlier call.
    type: int
  failure:
    description:
      - What the role that ran since the earlier call said when it failed. Nothing is walked; the outcome is completed.
    type: str
  reason:
    description: Why that role refused, as one word; then the outcome is V(refused) and not V(failed).
    type: str
    default: ""
seealso:
  - module: openstack.cyborg.apply_actions
"""

EXAMPLES = r"""
- name: Apply what a saved plan has for this host
  openstack.cyborg.apply_plan:
    plan_file: plan.json
    allow_reboot: true
"""

RETURN = r"""
cyborg_outcome:
  description: What came out of the plan of this host so far, as M(openstack.cyborg.apply_actions) says it.
  returned: always
  type: dict
  sample: {status: applied, steps: [], message: ""}
cyborg_roles:
  description: The roles of drivers that the plan has from here on. Empty when the plan is done.
  returned: always
  type: list
  elements: dict
  contains:
    index:
      description: Where the role stands among the segments.
      type: int
      returned: always
    role:
      description: Its full name.
      type: str
      returned: always
    driver:
      description: Its arguments; they reach it as C(cyborg_driver).
      type: dict
      returned: always
cyborg_link:
  description:
    - How the host is reached, as options of the modules that change it. The role P(openstack.cyborg.apply#role) makes
      it their default inside the roles of drivers, so that what carries the connection is protected there too.
  returned: when the plan could be read
  type: dict
  sample: {connection: ssh, peer: 192.0.2.1}
reboot_required:
  description: Whether a step that was applied takes effect with a boot only.
  returned: always
  type: bool
  sample: false
"""

#!/usr/bin/python
# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: apply_actions
short_description: Apply a list of steps of a plan in one call
version_added: 0.1.0
description:
  - Runs steps in their order, each a call of one of the state modules of this collection, under one lock. The first
    step that is refused or fails ends the list; the rest is skipped.
  - Before a step writes, what was found is compared with what the plan was made from, and the fields that it sets are
    entered in the host's own record with the value that they had. A host that another controller keeps is refused,
    and so is a plan that is older than the last one.
  - Called by M(openstack.cyborg.apply_plan). In a playbook of your own call the state modules themselves.
author:
  - Cyborg Reconciler contributors (@openstack)
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
options:
  steps:
    description: The steps.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: Unique in the plan.
        type: str
        required: true
      module:
        description: A state module of this collection, without the namespace.
        type: str
        required: true
      args:
        description: Its parameters.
        type: dict
        default: {}
      observed:
        description: What the plan was made from, in the words of the module's C(before).
        type: dict
        default: {}
      own:
        description: Fields to enter as owned; C(path), C(before) and C(set) of each.
        type: list
        elements: dict
        default: []
      release:
        description: Paths of fields that go back to what they were, and are then forgotten.
        type: list
        elements: list
        default: []
  own:
    description: Fields to enter as owned on behalf of a driver's role that runs next.
    type: list
    elements: dict
    default: []
  release:
    description: Paths to forget on behalf of a driver's role that has run.
    type: list
    elements: list
    default: []
  controller_id:
    description: Which controller keeps this host.
    type: str
    required: true
  fencing_token:
    description: Rises with every run of the controller; a lower one than the last is refused.
    type: int
    required: true
seealso:
  - module: openstack.cyborg.apply_plan
  - module: openstack.cyborg.sriov_vfs
"""

EXAMPLES = r"""
- name: Make four VFs as a controller does
  openstack.cyborg.apply_actions:
    controller_id: 0f5a7c1e-9f6b-4c51-8f0c-8a2d6e0a9b11
    fencing_token: 7
    steps:
      - id: sriov 0000:3b:00.0
        module: sriov_vfs
        args: {address: "0000:3b:00.0", num_vfs: 4}
        observed: {num_vfs: 0}
        own:
          - path: ["0000:3b:00.0", sriov, num_vfs]
            before: 0
            set: 4
"""

RETURN = r"""
cyborg_outcome:
  description: What came out of the steps.
  returned: always
  type: dict
  contains:
    status:
      description: V(applied), V(refused) or V(failed).
      type: str
      returned: always
      sample: applied
    message:
      description: Why it was refused or failed.
      type: str
      returned: always
      sample: ""
    steps:
      description:
        - The outcome of each step, with C(status) V(changed), V(unchanged), V(refused), V(failed) or V(skipped).
        - A step is V(changed) when what was read after it differs from what was before, or a file of configuration was
          written. Where its module says so and neither is true it is V(unchanged), with a message.
      type: list
      elements: dict
      returned: always
      sample:
        - id: sriov 0000:3b:00.0
          status: changed
          before: {num_vfs: 0}
          after: {num_vfs: 4}
          reboot_required: false
          reason: ""
          message: ""
reboot_required:
  description: Whether one of the steps takes effect with a boot only.
  returned: always
  type: bool
  sample: false
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.openstack.cyborg.plugins.module_utils import (
    binding,
    bootargs,
    kernel_modules,
    sriov,
    state_module,
)
from ansible_collections.openstack.cyborg.plugins.module_utils.apply import Request, apply
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Lock
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree, Unreadable, spelled

FEATURES = {
    "device_binding": binding,
    "kernel_args": bootargs,
    "kernel_module": kernel_modules,
    "sriov_vfs": sriov,
}
STEP = {
    "id": {"type": "str", "required": True},
    "module": {"type": "str", "required": True},
    "args": {"type": "dict", "default": {}},
    "observed": {"type": "dict", "default": {}},
    "own": {"type": "list", "elements": "dict", "default": []},
    "release": {"type": "list", "elements": "list", "default": []},
}
ARGUMENTS = {
    "steps": {"type": "list", "elements": "dict", "required": True, "options": STEP},
    "own": {"type": "list", "elements": "dict", "default": []},
    "release": {"type": "list", "elements": "list", "default": []},
    "controller_id": {"type": "str", "required": True},
    "fencing_token": {"type": "int", "required": True, "no_log": False},
}


def validated(feature, args):
    """Return *args* checked against the parameters of *feature*. Raises: ValueError."""
    result = ArgumentSpecValidator(feature.ARGUMENTS).validate(args)
    if result.error_messages:
        raise ValueError("; ".join(result.error_messages))
    return result.validated_parameters


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=dict(ARGUMENTS, **state_module.ARGUMENTS), supports_check_mode=True)
    request = Request(module.params, FEATURES, validated)
    try:
        tree = Tree(module.params["root"])
        with Lock(tree, module.params["lock_timeout_s"]):
            outcome, diffs = apply(tree, request, check=module.check_mode)
    except (Failure, Unreadable) as exc:
        outcome, diffs = {"status": "failed", "steps": [], "message": str(exc)}, []
    outcome, diffs = spelled([outcome, diffs])
    result = {
        "changed": any(step["status"] == "changed" for step in outcome["steps"]),
        "cyborg_outcome": outcome,
        "reboot_required": any(step["reboot_required"] for step in outcome["steps"]),
        "diff": diffs,
    }
    if outcome["status"] != "applied":
        module.fail_json(msg=outcome["message"], **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What do all state modules do alike: take the host's lock, make one thing so, say what was and what is?

Called by the modules with their feature: ``ARGUMENTS``, ``ensure(host, args)``. Does I/O.
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.openstack.cyborg.plugins.module_utils import unfinished
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, Host, Lock, Refusal
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import ToolMissing, Tree, Unreadable, spelled

#: Of every module that changes a host. The doc fragment `host` describes them.
ARGUMENTS = {
    "root": {"type": "path", "default": "/"},
    "lock_timeout_s": {"type": "int", "default": 60},
    "connection": {"type": "str", "choices": ["ssh", "local"]},
    "peer": {"type": "str"},
}


def run(feature, **more):
    """Run the state module of *feature*; *more* goes to AnsibleModule."""
    module = AnsibleModule(argument_spec=dict(feature.ARGUMENTS, **ARGUMENTS), supports_check_mode=True, **more)
    try:
        tree = Tree(module.params["root"])
        host = Host(tree, check=module.check_mode, link=(module.params["connection"], module.params["peer"]))
        with Lock(tree, module.params["lock_timeout_s"]):
            if not module.check_mode:
                unfinished.restore_all(host)
            result = feature.ensure(host, module.params)
    except Refusal as exc:
        module.fail_json(**spelled({"msg": exc.message, "reason": exc.reason, "holders": exc.holders}))
    except (Failure, Unreadable, ToolMissing, ValueError) as exc:
        module.fail_json(**spelled({"msg": str(exc)}))
    states = spelled({"before": result.before, "after": result.after})
    module.exit_json(changed=result.changed, reboot_required=result.reboot_required, diff=states, **states)

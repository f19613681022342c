# SPDX-License-Identifier: Apache-2.0
"""Hosts through Ansible: which there are, what they report, and how plans are carried out on them.

`bootstrap` makes one `AnsibleOptions` and gives it to `AnsibleInventory`, `AnsibleObserver` and `AnsibleExecutor`, each
from its own module. Nothing is imported here: every run starts a `child`, and would pay for all of them.
"""

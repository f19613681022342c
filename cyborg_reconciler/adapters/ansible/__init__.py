# SPDX-License-Identifier: Apache-2.0
"""Hosts through Ansible: which there are, what they report, and how plans are carried out on them.

`bootstrap` makes one `AnsibleOptions` and gives it to `AnsibleInventory`, `AnsibleObserver` and `AnsibleExecutor`.
"""

from cyborg_reconciler.adapters.ansible.executor import AnsibleExecutor
from cyborg_reconciler.adapters.ansible.inventory import AnsibleInventory
from cyborg_reconciler.adapters.ansible.observer import AnsibleObserver
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions

__all__ = ["AnsibleExecutor", "AnsibleInventory", "AnsibleObserver", "AnsibleOptions"]

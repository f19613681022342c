# SPDX-License-Identifier: Apache-2.0
"""Hosts through Ansible: which there are, what they report, and how plans are carried out on them.

`bootstrap` makes one `AnsibleOptions` and gives it to `AnsibleInventory`.
"""

from cyborg_reconciler.adapters.ansible.inventory import AnsibleInventory
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions

__all__ = ["AnsibleInventory", "AnsibleOptions"]

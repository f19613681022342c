# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By what does the agent of a host know the conductor at its own port? Runs on the Ansible controller, for the role."""

from __future__ import annotations

DOCUMENTATION = r"""
name: port_digest
short_description: By what the agent of a host knows the conductor at its own port
version_added: 0.1.0
author:
  - Cyborg Reconciler contributors (@openstack)
description:
  - Makes what the agent of a host has in its C(conductor_digest_file), of the secret that the conductor has in its
    C(agent_secret_file) and of the host's name.
  - The conductor shows each agent a credential of its own. The host holds a digest of that, which opens nothing.
  - It is what C(cyborg-reconciler agents digest) prints. The role P(openstack.cyborg.agent#role) calls it.
positional: host
options:
  _input:
    description:
      - The conductor's secret, one printable word of 32 characters or more.
      - It must be random, such as C(openssl rand -hex 32) makes one. Whoever owns a host could guess another.
    type: str
    required: true
  host:
    description: The name of the host in the inventory, to the letter.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Let the conductor in
  ansible.builtin.copy:
    content: "{{ agent_secret | openstack.cyborg.port_digest(inventory_hostname) }}\n"
    dest: /etc/cyborg-agent/conductor_digest
    owner: cyborg-agent
    mode: "0600"
"""

RETURN = r"""
_value:
  description: The digest, such as V(sha256:) and 64 hexadecimal digits.
  type: str
"""

import hashlib
import hmac
import re

from ansible.errors import AnsibleFilterError

#: Another way to make it has another version here.
CONTEXT = b"cyborg-reconciler agent port v1\0"
SECRET = re.compile(r"[!-~]{32,4096}")


def port_digest(secret, host):
    """Return by what the agent of *host* knows the conductor that has *secret*. Raises: AnsibleFilterError."""
    is_other = isinstance(secret, (bytes, dict, list, tuple))  # not every text is a str: one of a vault is none
    words = "" if is_other else str(secret).strip()
    if not SECRET.fullmatch(words):
        raise AnsibleFilterError("port_digest: the secret must be a random word of 32 characters or more")
    if not isinstance(host, str) or not host:
        raise AnsibleFilterError("port_digest: the name of a host is needed")
    name = host.encode("utf-8", "surrogatepass")
    credential = hmac.new(words.encode("ascii"), CONTEXT + name, hashlib.sha256).hexdigest()
    return "sha256:" + hashlib.sha256(credential.encode("ascii")).hexdigest()


class FilterModule:
    """What Ansible finds here."""

    def filters(self):
        """Return the filter by its name."""
        return {"port_digest": port_digest}

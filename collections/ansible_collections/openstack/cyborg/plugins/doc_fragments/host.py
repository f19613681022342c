# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What do the options mean that several modules share? Read by ansible-doc; pure."""


class ModuleDocFragment:
    """The options of a module that says `extends_documentation_fragment: openstack.cyborg.host`."""

    DOCUMENTATION = r"""
options:
  root:
    description:
      - The folder below which the host's files lie.
      - With another folder than V(/) everything is read there, links included; the system that runs the module is left
        alone. No program is run then, and what only a program could tell is unknown.
      - A tree can be read, not changed, unless it is a simulated host.
    type: path
    default: /
"""

    # With `openstack.cyborg.host.connection`, for modules that say what must not be touched.
    CONNECTION = r"""
options:
  connection:
    description:
      - How the host is reached, so that the network device which carries this very connection can be told.
      - V(ssh) means that there is such a device. When it cannot be found every network device counts as protected.
      - V(local) means that there is none.
      - Without it the processes above the module are searched for an SSH session.
    type: str
    choices: [ssh, local]
  peer:
    description:
      - The IP address at the other end of the connection, as the host sees it.
      - Needed only where the SSH session cannot be found among the processes above the module.
    type: str
"""

    # With `openstack.cyborg.host.lock`, for modules that change something.
    LOCK = r"""
options:
  lock_timeout_s:
    description:
      - How many seconds to wait while another module changes this host.
    type: int
    default: 60
"""

# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a host get a digest of its own, made of a secret that nobody guesses?"""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.openstack.cyborg.plugins.filter.port_digest import FilterModule

port_digest = FilterModule().filters()["port_digest"]
SECRET = "0123456789abcdef" * 4
MADE = {
    "compute-7": "sha256:b15132886220e5663bf159ce9537471561b5d6c13e64f9589a7dfb24bace6669",
    "Compute-7": "sha256:376712f985ec1343a31b0717001c5c66062f9f99714575e278897d05f5a55324",
}


@pytest.mark.parametrize("host", sorted(MADE))
def test_each_host_has_a_digest_of_its_own(host):
    assert port_digest(SECRET, host) == MADE[host]
    assert port_digest(SECRET + "\n", host) == MADE[host], "as a file has it"


class VaultText:
    """A text that Ansible decrypts when it is asked for it."""

    def __str__(self):
        return SECRET


def test_a_secret_of_a_vault_is_one_too():
    assert port_digest(VaultText(), "compute-7") == MADE["compute-7"]


@pytest.mark.parametrize(
    "secret", ["", "s3cret", "a" * 31, "two words " * 4, "ü" * 40, None, 7, [SECRET], {"secret": SECRET}, b"a" * 40]
)
def test_what_could_be_guessed_or_is_no_word_is_refused_and_not_said(secret):
    with pytest.raises(AnsibleFilterError, match="32 characters") as refused:
        port_digest(secret, "compute-7")
    assert SECRET not in str(refused.value)


def test_without_a_host_there_is_none():
    with pytest.raises(AnsibleFilterError, match="a host"):
        port_digest(SECRET, "")

# SPDX-License-Identifier: Apache-2.0
"""What opens the port of an agent is made of the conductor's secret and the host's name, and of nothing else."""

import hashlib

import pytest

from cyborg_reconciler.port_credentials import port_credential, port_digest

SECRET = "0123456789abcdef" * 4
#: Made by `printf 'cyborg-reconciler agent port v1\0compute-7' | openssl dgst -sha256 -hmac SECRET`, and so on.
MADE = {
    "compute-7": "67cd5cd1109f5ff89463d044658a5fcc0e22a2e027e5567843a7e66d473d734c",
    "Compute-7": "3cadd1c1d6f070f63342acdc9b78a62146346307bb4b103968692d14747af668",
    "rechner-ä.example.com": "99de9d9ad7c6d4b49f2b9068afcdf72b37b864fab655ba962c8725403f457914",
}


@pytest.mark.parametrize("host", MADE)
def test_each_host_has_a_credential_of_its_own(host):
    assert port_credential(SECRET, host) == MADE[host]


def test_another_secret_makes_another_one():
    assert port_credential(SECRET[::-1], "compute-7") not in MADE.values()


def test_what_a_host_holds_of_it_is_its_hash():
    digest = port_digest(MADE["compute-7"])
    assert digest == "sha256:" + hashlib.sha256(MADE["compute-7"].encode()).hexdigest()
    assert digest == "sha256:b15132886220e5663bf159ce9537471561b5d6c13e64f9589a7dfb24bace6669"


def test_whatever_is_shown_or_asked_for_has_some_digest():
    assert len({port_digest(text) for text in ("", "\x00", "ü", "\udcff")}) == 4
    assert port_credential(SECRET, "\udcff") != port_credential(SECRET, "")

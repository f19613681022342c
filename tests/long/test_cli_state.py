# SPDX-License-Identifier: Apache-2.0
"""An accelerator's states at the command line: ready, inactive, in maintenance. Real Ansible, simulated hosts."""

import json

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather
from ansible_collections.openstack.cyborg.plugins.module_utils.tree import Tree
from cyborg_reconciler.adapters.declarations.catalogue import read_catalogue
from cyborg_reconciler.core.accelerators import units
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.simulation import guest_1
from tests.integration.console import open_console

pytestmark = pytest.mark.slow

CARD = "0000:00:05.0"
MODULE = "virtio_crypto"
CATALOGUE = {located.document.metadata.name: located.document.spec for located in read_catalogue()}


def must_run(host, *words):
    result = host.run(*words)
    assert result.rc == 0, result


def card_of(host):
    """Return the crypto card as hardware."""
    facts = decode_facts(json.dumps(gather(Tree(str(host.root)), modules=[MODULE], connection="local")))
    return next(unit for unit in units(facts, CATALOGUE) if unit.address == CARD)


def test_a_card_is_set_up_when_it_is_to_be_ready_and_left_alone_otherwise(tmp_path):
    with open_console(tmp_path, guest_1()) as console:
        host = console["guest-1"]
        must_run(host, "modprobe", "-r", MODULE)
        assert card_of(host).setup_required
        console.declare_pool(approval="automatic")

        console.declare("card", device_selector={"device_type": "CRYPTO"}, state="ready")
        first = console.must_apply()
        assert set(first.steps("guest-1")) == {"driver virtio-crypto", "driver virtio-crypto verified"}
        assert not card_of(host).setup_required

        must_run(host, "modprobe", "-r", MODULE)
        console.declare("card", device_selector={"device_type": "CRYPTO"}, state="inactive")
        assert console.plan().code == 0, "an inactive card needs no driver"

        console.declare(
            "card", device_selector={"device_type": "CRYPTO"}, state="maintenance", binding={"driver": "none"}
        )
        waits = console.plan().waits("guest-1")
        assert list(waits) == ["Suspended"]
        assert "in maintenance by policy card" in waits["Suspended"]
        condition = next(one for one in console.status("guest-1")["conditions"] if one["type"] == "Paused")
        assert condition["message"] == f"in maintenance: {CARD}"

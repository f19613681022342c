# SPDX-License-Identifier: Apache-2.0
"""What every store of tokens promises: a suite over both databases and over the fake that tests use in their place."""

from datetime import UTC, datetime, timedelta

import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.errors import ConflictError
from cyborg_reconciler.ports import Event
from cyborg_reconciler.stores.credentials import Credential
from cyborg_reconciler.testing import FakeCredentialStore

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
MADE = Event(NOON, "TokenCreated")
REVOKED = Event(LATER, "TokenRevoked")


@pytest.fixture(params=["sqlite", "postgresql", "fake"])
def kept(request, tmp_path):
    """A store, and what gives the kinds of the events that were told, oldest first."""
    if request.param == "fake":
        store = FakeCredentialStore()
        yield store, lambda: [event.kind for event in store.told]
        return
    database = request.getfixturevalue("postgresql") if request.param == "postgresql" else ""
    with open_journal(tmp_path / "state", database=database) as journal:
        yield journal.credentials(), lambda: [event.kind for event in journal.events()][::-1]


def one(name, digest="0" * 64, **more):
    return Credential(name=name, role="reader", digest=digest, created_at=NOON, **more)


def test_what_was_added_is_found_by_its_digest_with_all_that_it_had(kept):
    store, told = kept
    first = one("ci", "a" * 64, project_id="p", expires_at=LATER)
    store.add_credential(first, MADE)
    store.add_credential(one("a", "b" * 64), MADE)
    assert store.credential("a" * 64) == first
    assert store.credential("c" * 64) is None
    assert [each.name for each in store.credentials()] == ["a", "ci"]
    assert told() == ["TokenCreated", "TokenCreated"]


def test_a_name_is_had_once_also_after_it_was_revoked(kept):
    store, told = kept
    store.add_credential(one("ci"), MADE)
    store.revoke_credential("ci", LATER, REVOKED)
    with pytest.raises(ConflictError, match="ci"):
        store.add_credential(one("ci", "b" * 64), MADE)
    assert told() == ["TokenCreated", "TokenRevoked"]


def test_who_is_not_there_or_is_revoked_is_not_revoked_and_nothing_is_told(kept):
    store, told = kept
    store.add_credential(one("ci"), MADE)
    assert store.revoke_credential("ci", LATER, REVOKED)
    assert not store.revoke_credential("ci", LATER + timedelta(hours=1), REVOKED)
    assert not store.revoke_credential("nobody", LATER, REVOKED)
    assert store.credential("0" * 64).revoked_at == LATER
    assert told() == ["TokenCreated", "TokenRevoked"]


def test_the_last_use_is_the_latest_in_whichever_order_it_is_told(kept):
    store, _ = kept
    store.add_credential(one("a", "a" * 64), MADE)
    store.add_credential(one("b", "b" * 64), MADE)
    store.record_uses({"b": LATER, "a": NOON})
    store.record_uses({"b": NOON, "a": LATER})
    assert [each.last_used_at for each in store.credentials()] == [LATER, LATER]

# SPDX-License-Identifier: Apache-2.0
"""Users' tokens: how they are made and kept, and what is noted of their use."""

import re
from datetime import timedelta

import pytest

from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.credentials import (
    TOKEN,
    Credentials,
    Uses,
    caller_of,
)
from cyborg_reconciler.conductor.secrets import AGENT, ENROLMENT, USER, hash_of, new_token, without_tokens
from cyborg_reconciler.errors import ConflictError, NotFoundError, RequestInvalidError
from cyborg_reconciler.testing import FakeCredentialStore, FixedClock

ROOT = Caller("root (command line)", Role.ADMIN)
DAY = timedelta(days=1)


@pytest.fixture
def kept():
    return Credentials(FakeCredentialStore(), FixedClock())


def test_a_token_is_256_random_bits_after_a_prefix_that_scanners_know():
    made = {new_token(USER) for _ in range(100)}
    assert len(made) == 100
    assert all(TOKEN.fullmatch(token) and token.startswith(USER) for token in made)
    # 43 characters of 6 bits each hold 32 bytes.
    assert {len(token.removeprefix(f"{USER}_")) for token in made} == {43}


def test_what_is_kept_says_all_but_the_token(kept):
    one, token = kept.create(ROOT, "ci", "member", "p", DAY)
    assert (one.name, one.role, one.project_id, one.expires_at) == ("ci", "member", "p", kept.clock.now() + DAY)
    assert one.digest == hash_of(token)
    assert token not in repr((kept.store.credentials(), kept.store.told))
    assert kept.find(hash_of(token)) == one
    assert kept.find(hash_of(new_token(USER))) is None
    assert caller_of(one) == Caller("ci", Role.MEMBER, "p")


def test_making_and_revoking_are_in_the_audit_trail_with_who_did_it(kept):
    kept.create(ROOT, "ci", "member", None, None)
    kept.revoke(ROOT, "ci")
    made, revoked = kept.store.told
    assert (made.kind, revoked.kind) == ("TokenCreated", "TokenRevoked")
    assert made.data["by"] == revoked.data["by"] == "root (command line)"
    assert made.data["after"] == {"token": "ci", "role": "member", "project_id": None, "expires_at": None}


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "a\n", "local", "é", "a/b", "\x1b[2J"])
def test_names_that_could_mislead_a_reader_of_the_audit_trail_are_refused(kept, name):
    with pytest.raises(RequestInvalidError):
        kept.create(ROOT, name, "reader", None, None)
    with pytest.raises(RequestInvalidError):
        kept.create(ROOT, "ci", "reader", name, None)


def test_what_cannot_be_revoked_is_told_why(kept):
    kept.create(ROOT, "ci", "reader", None, None)
    kept.revoke(ROOT, "ci")
    with pytest.raises(ConflictError, match="already"):
        kept.revoke(ROOT, "ci")
    with pytest.raises(NotFoundError, match="token list"):
        kept.revoke(ROOT, "another")


def test_uses_are_kept_together_and_to_within_minutes(kept):
    one, _ = kept.create(ROOT, "a", "reader", None, None)
    other, _ = kept.create(ROOT, "b", "reader", None, None)
    uses, now = Uses(kept.store, together_s=3600), kept.clock.now()
    uses.note(one, now)
    uses.note(other, now)
    assert [each.last_used_at for each in kept.store.credentials()] == [None, None]
    uses.close()
    assert [each.last_used_at for each in kept.store.credentials()] == [now, now]
    first, _ = kept.store.credentials()
    uses.note(first, now + timedelta(minutes=4))
    uses.flush()
    assert kept.store.credentials()[0].last_used_at == now
    uses.note(first, now + timedelta(minutes=5))
    uses.close()
    assert kept.store.credentials()[0].last_used_at == now + timedelta(minutes=5)


@pytest.mark.parametrize("whose", [USER, AGENT, ENROLMENT])
def test_a_token_in_a_text_is_left_out(whose):
    token = new_token(whose)
    assert without_tokens(f"/v1/{token}/x?{token}") == f"/v1/{whose}_…/x?{whose}_…"
    assert not re.search(r"[A-Za-z0-9_-]{20}", without_tokens(token))

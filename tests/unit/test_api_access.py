# SPDX-License-Identifier: Apache-2.0
"""Who calls, by the token that he sends: what is believed, for how long, and how often it is asked."""

from datetime import timedelta

import pytest

from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.credentials import Credentials, Uses
from cyborg_reconciler.conductor.secrets import USER, new_token
from cyborg_reconciler.errors import ForbiddenError, JournalError, UnauthenticatedError
from cyborg_reconciler.testing import FakeCredentialStore, FixedClock
from cyborg_reconciler_api.access import BELIEVED, LOCAL, TokenScheme, nobody_is_asked, token_of

ROOT = Caller("root", Role.ADMIN)
PEER = "192.0.2.7"


class World:
    """A scheme with its store and its clocks."""

    def __init__(self):
        self.clock = FixedClock()
        self.began = self.clock.now()
        self.store = FakeCredentialStore()
        self.credentials = Credentials(self.store, self.clock)
        self.uses = Uses(self.store, together_s=3600)
        self.scheme = TokenScheme(self.credentials, self.uses, 5.0, self.now_s)

    def now_s(self):
        return (self.clock.now() - self.began).total_seconds()

    def make(self, name="ci", role="member", project=None, lifetime=None):
        return self.credentials.create(ROOT, name, role, project, lifetime)[1]

    def ask(self, token, peer=PEER):
        return self.scheme(f"Bearer {token}", peer)


@pytest.fixture
def world():
    world = World()
    yield world
    world.uses.close()


def test_who_has_a_token_is_known_by_it(world):
    assert world.ask(world.make(project="p")) == Caller("ci", Role.MEMBER, "p")
    world.uses.flush()
    assert world.store.credentials()[0].last_used_at == world.clock.now()


@pytest.mark.parametrize("state", ["unknown", "expired", "revoked", "malformed", "missing", "another's kind"])
def test_whatever_opens_nothing_is_answered_alike(world, state):
    token = world.make(lifetime=timedelta(seconds=1))
    if state == "revoked":
        world.credentials.revoke(ROOT, "ci")
    elif state == "expired":
        world.clock.move(1)
    header = {
        "unknown": f"Bearer {new_token(USER)}",
        "malformed": f"Bearer {token}x",
        "missing": None,
        "another's kind": f"Basic {token}",
    }.get(state, f"Bearer {token}")
    with pytest.raises(UnauthenticatedError) as caught:
        world.scheme(header, PEER)
    assert str(caught.value) == "there is no valid token; send a valid token: Authorization: Bearer TOKEN"


def test_the_database_is_asked_once_in_five_seconds(world):
    token = world.make()
    for _ in range(5):
        world.ask(token)
        world.clock.move(1)
    assert world.store.asked == 1
    world.ask(token)
    assert world.store.asked == 2


def test_a_revoked_token_works_no_longer_than_it_is_believed(world):
    token = world.make()
    world.ask(token)
    world.credentials.revoke(ROOT, "ci")
    world.clock.move(4.9)
    world.ask(token)
    world.clock.move(0.1)
    with pytest.raises(UnauthenticatedError):
        world.ask(token)


def test_an_expired_token_works_no_longer_than_it_says_however_lately_it_was_believed(world):
    token = world.make(lifetime=timedelta(seconds=2))
    world.ask(token)
    world.clock.move(2)
    with pytest.raises(UnauthenticatedError):
        world.ask(token)
    assert world.store.asked == 1


def test_a_token_that_was_just_made_works_at_once(world):
    token = new_token(USER)
    with pytest.raises(UnauthenticatedError):
        world.ask(token)
    assert world.ask(world.make()).name == "ci"


def test_a_database_that_is_gone_is_no_wrong_token(world):
    token = world.make()
    world.store.broken = JournalError(wanted="the journal", found="it is gone")
    with pytest.raises(JournalError):
        world.ask(token)
    world.store.broken = None
    assert world.ask(token).name == "ci"


def test_what_is_believed_is_bounded(world):
    for number in range(BELIEVED + 1):
        world.scheme._believe(f"{number}", world.credentials.store.credential("x"), 0.0)
    assert len(world.scheme._believed) == 0
    world.make()
    (one,) = world.store.credentials()
    for number in range(BELIEVED + 10):
        world.scheme._believe(f"{number}", one, 0.0)
    assert len(world.scheme._believed) == BELIEVED


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer x", "bearercyu_", "Bearer a b"])
def test_what_could_be_no_token_is_none(header):
    assert token_of(header) is None


def test_the_word_bearer_is_known_in_any_case():
    token = new_token(USER)
    assert token_of(f"bEARER  {token}") == token


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", ""])
def test_with_nobody_asked_this_machine_may_do_everything(peer):
    assert nobody_is_asked(None, peer) == LOCAL


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"])
def test_with_nobody_asked_other_machines_may_do_nothing(peer):
    with pytest.raises(ForbiddenError, match=peer):
        nobody_is_asked(f"Bearer {new_token(USER)}", peer)

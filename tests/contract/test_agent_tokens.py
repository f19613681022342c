# SPDX-License-Identifier: Apache-2.0
"""Does a token that was revoked stay so, whatever its agent was just about to do with it? On both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cyborg_reconciler.adapters.database import open_journal
from cyborg_reconciler.conductor.admission import Admission
from cyborg_reconciler.conductor.agents import Agents, AgentTerms, Enroller
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.saving import SaveOut, Saver
from cyborg_reconciler.conductor.secrets import hash_of
from cyborg_reconciler.documents.rest.agent import CheckInGiven, InventoryGiven, LookupGiven
from cyborg_reconciler.errors import ForbiddenError, NotFoundError, StaleCheckInError, UnauthenticatedError
from cyborg_reconciler.testing import FixedClock

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
OPERATOR = Caller("operator", Role.ADMIN)
HOST = "compute-7"


class RevokedMeanwhile:
    """A store in which an operator revokes the tokens just before an agent gets others."""

    def __init__(self, agents):
        self.agents = agents

    def __getattr__(self, name):
        return getattr(self.agents.store, name)

    def set_token(self, *given):
        admission(self.agents).revoke(OPERATOR, HOST)
        return self.agents.store.set_token(*given)


@pytest.fixture
def journal(tmp_path, database):
    with open_journal(tmp_path / "state", database=database) as journal:
        yield journal


@pytest.fixture
def agents(journal):
    saver = Saver(journal.agents(), SaveOut(interval_s=3600))
    yield Agents(journal.agents(), saver, FixedClock(NOW))
    saver.close()


def admission(agents):
    """What operators do about the same agents."""
    return Admission(agents.store, agents.clock)


def enrolled(agents):
    enroller = agents.enroller(admission(agents).enrol(OPERATOR, HOST, timedelta(hours=1)))
    look_up = LookupGiven(agent_version="1", inventory=InventoryGiven(hostname=HOST))
    return agents.look_up(enroller, look_up)[0].token


@pytest.fixture
def token(agents):
    """The token of an agent that is to be told another."""
    token = enrolled(agents)
    admission(agents).ask(OPERATOR, [HOST], "rotate_token")
    return token


def commands(agents, token, sequence=1, done=()):
    terms = {"agent_version": "1", "boot_id": "b", "epoch": 1, "sequence": sequence, "fingerprint": ""}
    return agents.check_in(agents.speaker(token), HOST, CheckInGiven(**terms, done=list(done))).commands


def test_one_that_was_just_to_be_told_another_is_told_none(agents, token):
    overtaken = replace(agents, store=RevokedMeanwhile(agents))
    assert commands(overtaken, token) == []
    assert agents.store.agent(HOST).token_hash == ""


def test_one_that_is_just_used_for_the_first_time_opens_nothing(agents, token):
    (told,) = commands(agents, token)
    overtaken = replace(agents, store=RevokedMeanwhile(agents))
    for one in (told.token, token):
        with pytest.raises(UnauthenticatedError):
            overtaken.speaker(one)
    assert agents.store.agent(HOST).token_hash == ""


def test_two_who_use_it_at_once_are_both_let_in(agents, token):
    (told,) = commands(agents, token)

    class UsedMeanwhile(RevokedMeanwhile):
        def set_token(self, *given):
            assert self.agents.speaker(told.token)
            return self.agents.store.set_token(*given)

    assert replace(agents, store=UsedMeanwhile(agents)).speaker(told.token).host == HOST


def test_who_is_revoked_gets_in_by_no_token_that_was_minted_before(journal, agents, token):
    for host in (HOST, "never-came"):
        minted = admission(agents).enrol(OPERATOR, host, timedelta(days=7))
        assert agents.enroller(minted).host == host
        admission(agents).revoke(OPERATOR, host)
        for one in (agents.enroller, agents.speaker):
            with pytest.raises(UnauthenticatedError):
                one(minted if one == agents.enroller else token)
        assert "AgentTokenRevoked" in [event.kind for event in journal.events(host)]
    with pytest.raises(NotFoundError):
        admission(agents).revoke(OPERATOR, "nobody")
    assert journal.events("nobody") == []
    assert enrolled(agents) != token


def test_a_token_to_enrol_with_opens_nothing_once_it_has_expired(agents):
    minted = admission(agents).enrol(OPERATOR, HOST, timedelta(hours=1))
    agents.clock.move(3599)
    assert agents.enroller(minted).host == HOST
    agents.clock.move(1)
    with pytest.raises(UnauthenticatedError, match="has expired"):
        agents.enroller(minted)


def test_a_new_one_is_told_of_once_however_often_it_is_made(journal, agents, token):
    told = {commands(agents, token, sequence)[0].token for sequence in (1, 2, 3)}
    assert len(told) == 3
    assert [event.kind for event in journal.events(HOST)].count("AgentTokenTold") == 1


def test_who_is_enrolled_anew_counts_anew_however_far_the_one_before_had_come(agents, token):
    last = {"agent_version": "1", "boot_id": "b", "epoch": 2**63 - 1, "sequence": 2**63 - 1, "fingerprint": ""}
    assert agents.check_in(agents.speaker(token), HOST, CheckInGiven(**last))
    agents.saver.close()
    with pytest.raises(StaleCheckInError):
        commands(agents, token)
    anew = enrolled(agents)
    assert commands(agents, anew) == []
    with pytest.raises(UnauthenticatedError):
        agents.speaker(token)


def test_who_registers_a_name_just_after_another_is_told_that_it_is_known(agents):
    ours = replace(agents, terms=AgentTerms(secret_hash=hash_of("shared")))
    look_up = LookupGiven(agent_version="1", inventory=InventoryGiven(hostname="new"))

    class RegisteredMeanwhile(RevokedMeanwhile):
        def known_as(self, inventory):
            found = self.agents.store.known_as(inventory)
            assert ours.look_up(Enroller(), look_up)[0].token
            return found

    with pytest.raises(ForbiddenError, match="unknown hosts alone"):
        replace(ours, store=RegisteredMeanwhile(ours)).look_up(Enroller(), look_up)

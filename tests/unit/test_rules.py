# SPDX-License-Identifier: Apache-2.0
"""What the conductor tells of the policies of now, and when it cannot: over the fakes."""

import msgspec
import pytest

from cyborg_reconciler.conductor.rules import Rules
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.errors import DeclarationsInvalidError, Problem
from cyborg_reconciler.testing import FixedDeclarations
from tests.scenarios.story import NOW, facts_of, policy_of

CARD = "0000:6b:00.0"
READY = policy_of({"name": "mine", "host_selector": {"groups": ["crypto"]}, "state": "ready"}, 1)


class Kept:
    """Two hosts of which facts are kept; one of them is in no inventory."""

    def __init__(self):
        self.documents = dict.fromkeys(["a", "stray"], msgspec.json.encode(facts_of({})))

    def hosts(self, names):
        return {name: Host(name, frozenset({"crypto"})) for name in names if name == "a"}

    def facts(self, names):
        return {name: (self.documents[name], NOW) for name in names if name in self.documents}


class Read(FixedDeclarations):
    """Declarations that count how often they were read."""

    count = 0

    def read(self):
        self.count += 1
        return super().read()


@pytest.fixture
def declarations():
    return Read(Declared(policies=(READY,), digest="1"))


def test_policies_are_read_once_for_each_state_of_them(declarations):
    rules = Rules(declarations, Kept())
    assert {rules.of("a").state(CARD) for _ in range(3)} == {("ready", "mine (mine.yml:7)")}
    assert rules.of("stray").state(CARD).policy == "", "one that only its agent knows is in no group"
    assert declarations.count == 1
    declarations.declared = Declared(digest="2")
    assert (rules.of("a").state(CARD), declarations.count) == (("inactive", ""), 2)


def test_what_cannot_be_told_is_not_made_up(declarations):
    kept = Kept()
    rules = Rules(declarations, kept)
    assert rules.of("nobody-has-seen-me") is None
    kept.documents["a"] = b"{"
    assert rules.of("a") is None
    declarations.error = DeclarationsInvalidError([Problem("a.yml", 1, "", "is there twice", "keep one")])
    declarations.stamped = "3"
    assert rules.of("stray") is None

# SPDX-License-Identifier: Apache-2.0
"""What `plan` and `apply` exit with: 0 all is well, 2 there is something to do or to wait for, 1 anything else."""

from dataclasses import replace

import pytest

from cyborg_reconciler.cli import apply, plan
from cyborg_reconciler.core.state import Phase
from cyborg_reconciler.documents.plan import Outcome
from cyborg_reconciler.ports import Unobserved
from cyborg_reconciler.reconcile import converge
from cyborg_reconciler.testing import change_nothing, ignore_progress
from tests.scenarios.story import facts_of, policy_of
from tests.unit.test_reconcile import ARGS, YES, World

WARN = policy_of({"name": "qat", "mode": "warn", "sriov": {"num_vfs": 4}}, 1)
OTHER = facts_of({"owner": "another-one", "owned": {"host kernel_args quiet": None}})
REFUSED = Outcome(status="refused", message="VF 1 is held")
FAILED = Outcome(status="failed", message="broken")


def off(world):
    world.observer.unobserved["b"] = Unobserved("Unreachable", "no route to host")


@pytest.mark.parametrize(
    ("world", "mishap", "planned", "applied"),
    [
        (World("a"), None, 2, 0),
        (World("a", "b"), off, 2, 2),
        (World("a", policies=[WARN]), None, 2, 2),
        (World("a", policies=[ARGS]), None, 2, 2),  # a reboot is needed, and not allowed
        (World("a", react=change_nothing), None, 2, 1),
        (World("a"), lambda world: world.observer.facts.update(a=OTHER), 1, 1),
        (World("a"), lambda world: world.executor.outcomes.update(a=REFUSED), 2, 1),
        (World("a"), lambda world: world.executor.outcomes.update(a=FAILED), 2, 1),
    ],
    ids=["well", "one is off", "warned", "waits", "done in vain", "another's", "refused", "failed"],
)
def test_the_exit_code_says_how_it_went(world, mishap, planned, applied):
    if mishap:
        mishap(world)
    assert plan.exit_code(world.look()) == planned
    assert apply.exit_code(world.converge()) == applied


def test_a_plan_with_nothing_to_do_is_only_well_when_every_host_was_observed():
    world = World("a", "b")
    world.converge()
    assert plan.exit_code(world.look()) == 0
    off(world)
    assert plan.exit_code(world.look()) == 1


def test_what_no_person_was_shown_waits_for_approval_and_is_no_failure():
    world = World("a")
    first = world.look()
    more = policy_of({"name": "qat", "sriov": {"num_vfs": 8}}, 1)
    world.declarations.declared = replace(world.declarations.declared, policies=(more,), digest="e")
    seen = converge(world.ports, first, YES, ignore_progress)
    assert seen.hosts["a"].phase is Phase.PENDING_APPROVAL
    assert world.journal.hosts()[0].reason == "PendingApproval"
    assert apply.exit_code(seen) == 2

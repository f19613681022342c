# SPDX-License-Identifier: Apache-2.0
"""What a person agreed to is all that is done, however the host changes meanwhile."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cyborg_reconciler.core.plan import Terms, make_plan
from cyborg_reconciler.core.resolve import compile_policies, resolve
from cyborg_reconciler.core.state import Action
from cyborg_reconciler.core.subject import lay_out
from cyborg_reconciler.documents.base import Metadata, Selector
from cyborg_reconciler.documents.declared import Declared, Located
from cyborg_reconciler.documents.facts import Facts
from cyborg_reconciler.documents.plan import ActionsSegment, Outcome, PlanDocument, StepOutcome
from cyborg_reconciler.documents.pool import PoolSpec, RolloutPool
from cyborg_reconciler.ports import Journal, OnProgress
from cyborg_reconciler.reconcile import converge
from cyborg_reconciler.survey import Options, survey
from cyborg_reconciler.testing import FixedClock, RecordedObserver, ignore_progress
from tests.fake_ports import fake_ports
from tests.properties.fleet import declarations, hosts
from tests.properties.simulator import Host
from tests.properties.test_laws import COMPUTE, REBOOT, marked

SAVED = Options(consent=True, saved=True)


class Obedient:
    """An executor on one host that obeys, and is then free for all that had to wait.

    Attributes:
        done: the actions that were carried out, oldest first.
    """

    def __init__(self, facts: Facts, declared: Declared) -> None:
        self.observer = RecordedObserver({COMPUTE.name: facts})
        self.journal: Journal | None = None
        self.done: list[Action] = []
        self._host, self._compiled = Host(facts), compile_policies(declared)

    def apply(self, plan: PlanDocument, on_progress: OnProgress) -> Mapping[str, Outcome]:
        del on_progress
        self.done += self._actions_of(plan)
        self._host.apply(plan.hosts[COMPUTE.name], plan.controller_id)
        addresses = frozenset(device.address for device in self._host.facts.devices)
        self._host.facts = marked(self._host.facts, addresses, holders=[], protected=[])
        self.observer.facts[COMPUTE.name] = self._host.facts
        segments = plan.hosts[COMPUTE.name].segments
        ids = [one.id for found in segments for one in (found.steps if isinstance(found, ActionsSegment) else [found])]
        return {COMPUTE.name: Outcome(status="applied", steps=[StepOutcome(id=one, status="changed") for one in ids])}

    def settle(self) -> None:
        """Nothing is left running here."""

    def _actions_of(self, plan: PlanDocument) -> tuple[Action, ...]:
        """Return the actions of which *plan* is the travelling form: the same facts give the same plan."""
        subject = lay_out(self._host.facts, self._compiled.catalogue)
        desired = resolve(self._compiled, COMPUTE, subject)
        assert self.journal is not None
        history = self.journal.histories({COMPUTE.name: desired.digest()})[COMPUTE.name]
        now = FixedClock().now()
        made = make_plan(COMPUTE.name, desired, subject, Terms(plan.controller_id, REBOOT, history, now, now))
        assert made.digest == plan.hosts[COMPUTE.name].digest
        return made.actions


def pool_of(approval: str) -> Located[RolloutPool]:
    spec: Any = {"host_selector": Selector(groups=("all",)), "approval": approval, "reboot": REBOOT}
    document = RolloutPool(
        api_version="cyborg/v1", kind="RolloutPool", metadata=Metadata(name="p"), spec=PoolSpec(**spec)
    )
    return Located(document, "pool.yml", {})


@given(declarations(agreeing=True), hosts(busy=True), st.sampled_from(["manual", "automatic"]))
def test_a_saved_plan_is_all_that_is_done_in_any_pass(declared: Declared, facts: Facts, approval: str) -> None:
    executor = Obedient(facts, declared)
    approving = replace(declared, pools=(pool_of(approval),), digest="d")
    ports = fake_ports(approving, [COMPUTE], executor.observer, executor)
    executor.journal = ports.journal
    first = survey(ports, SAVED, ignore_progress)
    converge(ports, first, SAVED, ignore_progress)
    agreed = [(change, action) for action in first.hosts[COMPUTE.name].plan.actions for change in action.changes]
    for action in executor.done:
        for change in action.changes:
            assert any(
                (change.path, change.desired) == (shown.path, shown.desired) and action.disruption <= of.disruption
                for shown, of in agreed
            )

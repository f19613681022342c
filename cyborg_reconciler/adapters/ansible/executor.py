# SPDX-License-Identifier: Apache-2.0
"""How are plans carried out? Runs the playbook `apply` on all hosts of a plan, and reads the outcomes in its events.

The plan travels as base64 in a file of variables: nothing in it meets Ansible's template engine.
"""

import base64
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from cyborg_reconciler.adapters.ansible.events import Ended, HostEvent
from cyborg_reconciler.adapters.ansible.observer import require_some
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.adapters.ansible.run import Run, settle
from cyborg_reconciler.documents.plan import (
    ActionsSegment,
    HostPlan,
    Outcome,
    PlanDocument,
    RebootSegment,
    StepOutcome,
    encode,
)
from cyborg_reconciler.ports import OnProgress


class AnsibleExecutor:
    """Plans through Ansible."""

    def __init__(self, options: AnsibleOptions) -> None:
        self._options = options
        self._running: set[Run] = set()
        self._lock = threading.Lock()

    def apply(self, plan: PlanDocument, on_progress: OnProgress) -> Mapping[str, Outcome]:
        """Carry out the plan of each host, and return an entry for every one.

        Raises:
            ExecutionError: no host could be asked at all.
        """
        if not plan.hosts:
            return {}
        options = self._options
        # The plan has a reboot only where pool and person allow it: that was decided when it was made.
        variables = {"cyborg_plan": base64.b64encode(encode(plan)).decode("ascii"), "cyborg_allow_reboot": True}
        timeout_s = options.run_timeout_s + longest_reboot_s(plan)
        run = Run(options, options.apply_playbook, list(plan.hosts), timeout_s=timeout_s, variables=variables)
        stories = {host: Story(of_host) for host, of_host in plan.hosts.items()}
        with run:
            with self._lock:
                self._running.add(run)
            try:
                heard = False
                for event in run.messages():
                    heard = True
                    on_progress(event.progress())
                    if event.host in stories:
                        stories[event.host].add(event)
            finally:
                with self._lock:
                    self._running.discard(run)
            ended = run.ended or Ended(status="error")
            require_some(ended, heard=heard, playbook=options.apply_playbook)
            outcomes = {host: story.outcome(ended, timeout_s) for host, story in stories.items()}
            run.all_well = all(outcome.status == "applied" for outcome in outcomes.values())
        return outcomes

    def cancel(self) -> None:
        """Stop what `apply` is doing, in whatever thread; it returns what came out until then."""
        with self._lock:
            for run in self._running:
                run.cancel()

    def settle(self) -> None:
        """Stop, or wait for, what an earlier process of this state folder left running.

        Raises:
            ExecutionError: something would not end.
        """
        settle(self._options.runs, self._options.grace_s)


def longest_reboot_s(plan: PlanDocument) -> int:
    """Return how long the reboots of a host may take at most: a run that waits for one is not late yet."""
    return max(
        sum(one.timeout_s for one in of_host.segments if isinstance(one, RebootSegment))
        for of_host in plan.hosts.values()
    )


def step_ids(plan: HostPlan) -> Iterator[str]:
    """Yield the ids of everything in *plan*, in order."""
    for segment in plan.segments:
        if isinstance(segment, ActionsSegment):
            yield from (step.id for step in segment.steps)
        else:
            yield segment.id


@dataclass
class Story:
    """What a run said of one host, so far. Each report holds what came before, and the last one counts."""

    plan: HostPlan
    reported: Outcome | None = None
    steps: dict[str, StepOutcome] = field(default_factory=dict)
    failed: str = ""
    unreachable: str = ""

    def add(self, event: HostEvent) -> None:
        """Take in what happened."""
        if event.happened == "unreachable":
            self.unreachable = event.message
        elif event.happened == "failed":
            self.failed = event.message
        if event.outcome is not None:
            self._report(event.outcome)

    def _report(self, said: dict[str, object]) -> None:
        try:
            self.reported = msgspec.convert(said, Outcome)
        except msgspec.ValidationError as exc:
            self.failed = f"the collection reports an outcome that this release cannot read: {exc}"
            self.reported = None
            return
        self.steps.update((step.id, step) for step in self.reported.steps)
        self.failed = ""  # a task of a role that failed is in the report that follows it

    def outcome(self, ended: Ended, timeout_s: float) -> Outcome:
        """Return what came out. Applied is only what was reported so, to the last step."""
        steps = list(self.steps.values())
        if self.unreachable:
            return Outcome(status="unreachable", steps=steps, message=self.unreachable)
        if self.failed:
            return Outcome(status="failed", steps=steps, message=self.failed)
        left = [id_ for id_ in step_ids(self.plan) if id_ not in self.steps]
        if self.reported and (self.reported.status != "applied" or not left):
            return Outcome(status=self.reported.status, steps=steps, message=self.reported.message)
        after = f"; the last word was of {steps[-1].id}" if steps else ""
        if ended.status == "timeout":
            message = f"it was not done after {timeout_s:g} s, when the run was stopped{after}"
            return Outcome(status="cancelled", steps=steps, message=message)
        if ended.status == "cancelled":
            return Outcome(status="cancelled", steps=steps, message=f"the run was cancelled{after}")
        said = f": {ended.said}" if ended.said else ""
        return Outcome(status="missing", steps=steps, message=f"the run ended without a word of this host{after}{said}")

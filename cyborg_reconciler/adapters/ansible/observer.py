# SPDX-License-Identifier: Apache-2.0
"""What do the hosts report? Runs the playbook `observe` on all of them, and reads the facts in its events."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from cyborg_reconciler.adapters.ansible.events import Ended, HostEvent
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.adapters.ansible.run import Run
from cyborg_reconciler.core.modules_wanted import ModulesWanted
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.errors import ExecutionError, FactsUnreadableError
from cyborg_reconciler.ports import Clock, Observation, OnProgress, Unobserved


class AnsibleObserver:
    """Facts through Ansible."""

    def __init__(self, options: AnsibleOptions, clock: Clock) -> None:
        self._options, self._clock = options, clock

    def observe(
        self, hosts: Sequence[Host], modules: ModulesWanted, on_progress: OnProgress
    ) -> Mapping[str, Observation | Unobserved]:
        """Return an entry for every one of *hosts*: its facts, or why there are none.

        Raises:
            ExecutionError: no host could be asked at all.
        """
        names = [host.name for host in hosts]
        if not names:
            return {}
        found: dict[str, Observation | Unobserved] = {}
        options = self._options
        variables = {"cyborg_modules": list(modules)}
        run = Run(options, options.observe_playbook, names, timeout_s=options.run_timeout_s, variables=variables)
        with run:
            heard = False
            for event in run.messages():
                heard = True
                on_progress(event.progress())
                if said := parse_observation(event, self._clock.now()):
                    found[event.host] = said
            ended = run.ended or Ended(status="error")
            require_some(ended, heard=heard, playbook=options.observe_playbook)
            missing = explain_missing(ended, options.run_timeout_s)
            result = {name: found.get(name, missing) for name in names}
            run.all_well = all(isinstance(said, Observation) for said in result.values())
        return result


def parse_observation(event: HostEvent, at: datetime) -> Observation | Unobserved | None:
    """Return what *event*, which came in *at* that time, says of its host's facts; None when it says nothing."""
    if event.facts is not None:
        document = msgspec.json.encode(event.facts, order="sorted")
        try:
            return Observation(decode_facts(document), document, at)
        except FactsUnreadableError as exc:
            return Unobserved("Unreadable", exc.line())
    if event.happened == "unreachable":
        return Unobserved("Unreachable", event.message)
    if event.happened == "failed":
        return Unobserved("Failed", event.message)
    return None


def explain_missing(ended: Ended, timeout_s: float) -> Unobserved:
    """Return what is said of a host of which the run said nothing."""
    if ended.status == "timeout":
        return Unobserved("Missing", f"it had not answered after {timeout_s:g} s, when the run was stopped")
    if ended.status == "cancelled":
        return Unobserved("Missing", "the run was cancelled before it had answered")
    said = f": {ended.said}" if ended.said else ""
    return Unobserved("Missing", f"the run ended without a word of this host{said}")


def require_some(ended: Ended, *, heard: bool, playbook: str) -> None:
    """Raise ExecutionError when the run came to nothing before it came to any host."""
    if not heard and ended.status in {"failed", "error"}:
        found = ended.said or f"Ansible ended with {ended.rc} and said nothing"
        raise ExecutionError(
            wanted=f"a run of {playbook}", found=found, remedy="try `ansible-playbook` with the same inventory"
        )

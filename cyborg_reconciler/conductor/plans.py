# SPDX-License-Identifier: Apache-2.0
"""What would be done on hosts, by what is known of them already, and does somebody agree to it?

Called by the API. All I/O goes through the stores: no host is touched, and where a host stands is not changed. An
approval is for just the actions that were shown, under the generation that they were planned for; whoever carries them
out looks at the host anew, and finds it or does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec

from cyborg_reconciler.conductor.callers import Caller
from cyborg_reconciler.core.modules_wanted import modules_of
from cyborg_reconciler.core.select import selects_host
from cyborg_reconciler.core.state import History, Host
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.facts import decode_facts
from cyborg_reconciler.documents.plan import PlanDocument
from cyborg_reconciler.documents.rest.plan import PlanGiven
from cyborg_reconciler.errors import (
    ConflictError,
    FactsUnreadableError,
    FieldError,
    NotFoundError,
    RequestInvalidError,
)
from cyborg_reconciler.ports import Clock, Controller, Declarations, Event, Observation, Unobserved
from cyborg_reconciler.saved_plans import only, plan_document
from cyborg_reconciler.stores.fleet import PlanStore, Proposal, shown_plan, shown_steps
from cyborg_reconciler.survey import Basis, HostView, Options, Survey, compare
from cyborg_reconciler.survey_data import host_data, summary

#: Hosts of one plan: more than a person agrees to at once.
MAX_HOSTS: Final = 1000

NO_FACTS: Final = Unobserved("Missing", "no facts of it are kept; let it be looked at, or let its agent check in")


@dataclass(frozen=True, slots=True)
class Foresight:
    """The memory as it will be once hosts are looked at: nothing is written, no generation rises."""

    store: PlanStore

    def histories(self, digests: Mapping[str, str]) -> Mapping[str, History]:
        """Return what will be remembered of each host."""
        return self.store.foreseen(digests)

    def approved(self, host: str, generation: int, digest: str) -> bool:
        """Return whether just these actions were approved."""
        return self.store.approved(host, generation, digest)


@dataclass(frozen=True, slots=True)
class Plans:
    """What callers ask of plans; each method returns what the API gives of the plan then."""

    store: PlanStore
    declarations: Declarations
    controller: Controller
    clock: Clock
    options: Options

    def create(self, caller: Caller, given: PlanGiven) -> tuple[str, str]:
        """Plan for the hosts that are *given*, keep the plan, and return its uuid and what the API gives of it.

        Raises:
            RequestInvalidError: a host is in no inventory, or there are none, or too many.
            DeclarationsInvalidError: what is declared contradicts itself.
        """
        options = replace(self.options, allow_reboot=given.allow_reboot)
        seen = self._look(self._hosts(given), options)
        changing = [view for view in seen.hosts.values() if view.plan.actions]
        plan = plan_document(changing, seen.declared, self, options)
        now = self.clock.now()
        shown = {
            **shown_plan(plan, now),
            "created_by": caller.name,
            "allow_reboot": given.allow_reboot,
            "hosts": [_shown(view, plan) for view in seen.hosts.values()],
            "summary": summary(seen),
        }
        event = Event(
            now, "PlanCreated", "", f"{caller.name}: plan {plan.uuid}", {**caller.trace(), "hosts": len(seen.hosts)}
        )
        document = msgspec.json.encode(shown).decode()
        self.store.keep(Proposal(plan, document, given.allow_reboot), event)
        return plan.uuid, document

    def approve(self, caller: Caller, uuid: str) -> str:
        """Agree to what a plan does, if it is still what would be planned.

        Raises:
            NotFoundError. ConflictError: it does nothing, or is a run's own. PlanOutdatedError: facts or policies, or
            what follows from them, have changed, or the facts are too old.
        """
        proposal = self.store.proposal(uuid)
        if proposal is None:
            if self.store.document(uuid) is None:
                raise NotFoundError(wanted=f"plan {uuid}", found="there is none")
            raise ConflictError(wanted=f"to approve plan {uuid}", found="a run made it, and carried it out")
        names = list(proposal.plan.hosts)
        if not names:
            raise ConflictError(wanted=f"to approve plan {uuid}", found="there is nothing to be done in it")
        known = self.store.hosts(names)
        options = replace(self.options, allow_reboot=proposal.allow_reboot)
        only(self._look(list(known.values()), options), proposal.plan)
        now = self.clock.now()
        shown = {**msgspec.json.decode(proposal.document), "approved_at": now, "approved_by": caller.name}
        document = msgspec.json.encode(shown).decode()
        event = Event(
            now,
            "PlanApproved",
            "",
            f"{caller.name}: plan {uuid}",
            {**caller.trace(), "hosts": _digests(proposal.plan)},
        )
        self.store.approve(replace(proposal, document=document), now, event)
        return document

    def _hosts(self, given: PlanGiven) -> Sequence[Host]:
        """Return the hosts that are *given* by name or by selector."""
        if given.hosts:
            known = self.store.hosts(given.hosts)
            wrong = [
                FieldError(f"$.hosts[{number}]", "was in no inventory when hosts were last looked at")
                for number, name in enumerate(given.hosts)
                if name not in known
            ]
            if wrong:
                raise RequestInvalidError("the hosts", wrong)
            return [known[name] for name in dict.fromkeys(given.hosts)]
        found: list[Host] = []
        after = ""
        while len(found) <= MAX_HOSTS and (some := self.store.inventory(after, MAX_HOSTS)):
            after = some[-1].name
            found += [host for host in some if given.host_selector and selects_host(given.host_selector, host)]
        if found and len(found) <= MAX_HOSTS:
            return found
        text = f"selects more than {MAX_HOSTS} hosts; narrow it" if found else "selects no host of the inventory"
        raise RequestInvalidError("the selector", [FieldError("$.host_selector", text)])

    def _look(self, hosts: Sequence[Host], options: Options) -> Survey:
        """Return where *hosts* stand by the facts that are kept of them."""
        declared = self.declarations.read()
        kept = self.store.facts([host.name for host in hosts])
        observed = {host.name: _observation(kept.get(host.name)) for host in hosts}
        basis = Basis(declared, Foresight(self.store), self.controller.id, options, self.clock.now())
        views = compare(basis, hosts, observed)
        unspoken = {name: why for name, view in views.items() if (why := _unspoken(view, declared))}
        views |= compare(basis, [views[name].host for name in unspoken], unspoken)
        return Survey(declared, views, limited=True)


def _observation(kept: tuple[bytes, datetime] | None) -> Observation | Unobserved:
    """Return facts that were *kept* as if they came in now, with the time when they did."""
    if kept is None:
        return NO_FACTS
    try:
        return Observation(decode_facts(kept[0]), *kept)
    except FactsUnreadableError as exc:
        return Unobserved("Unreadable", str(exc))


def _unspoken(view: HostView, declared: Declared) -> Unobserved | None:
    """Return why the facts of a host do not suffice: they were gathered when nobody asked for some module.

    What they do not speak of is unknown, and not absent.
    """
    if view.desired is None or view.subject is None:
        return None
    asking = tuple(one for one in declared.policies if one.document.metadata.name in view.desired.policies)
    named = {one.document.spec.driver.name for one in asking if one.document.spec.driver is not None}
    drivers = tuple(one for one in declared.drivers if one.document.metadata.name in named)
    missing = [name for name in modules_of(Declared(asking, drivers)) if view.subject.module(name) is None]
    if not missing:
        return None
    text = f"its facts do not speak of {', '.join(missing)}, since nobody asked when they were gathered"
    return Unobserved("Missing", f"{text}; let it be looked at again")


def _shown(view: HostView, plan: PlanDocument) -> dict[str, Any]:
    """Return what the API gives of a host in a plan."""
    planned = plan.hosts.get(view.host.name)
    steps = shown_steps(planned) if planned else {"fingerprint": view.plan.fingerprint, "steps": []}
    return {**host_data(view), "facts_received_at": view.observed_at, **steps}


def _digests(plan: PlanDocument) -> dict[str, Any]:
    """Return what the audit trail keeps of what was approved."""
    return {host: {"generation": of.generation, "digest": of.digest} for host, of in plan.hosts.items()}

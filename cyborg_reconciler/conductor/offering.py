# SPDX-License-Identifier: Apache-2.0
"""Which accelerators are ready, now that their hosts were looked at? What a survey says of them, where they are kept.

Called by the loop after every pass. Decided from the survey alone: what was verified is offered, whoever set it up.
What is declared otherwise since the look began waits for the next pass, and what is as it was is not written. All I/O
goes through the stores.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cyborg_reconciler.conductor.implied import Catalogue, catalogue_of, name_of, of_accelerator
from cyborg_reconciler.conductor.rules import Rules
from cyborg_reconciler.core.accelerators import units
from cyborg_reconciler.core.offer import Offer, offers
from cyborg_reconciler.core.rules import HostRules
from cyborg_reconciler.core.state import Health, Origin
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores.accelerators import Accelerator, ObservedAccelerators
from cyborg_reconciler.survey import HostView, Survey


@dataclass(frozen=True, slots=True)
class Offering:
    """Keeps accelerators as their hosts were seen."""

    accelerators: ObservedAccelerators
    rules: Rules
    clock: Clock

    def record(self, seen: Survey) -> None:
        """Note what *seen*, the end of a pass, says of accelerators; of hosts that were not observed, nothing.

        Raises:
            JournalError: the database cannot be used.
        """
        catalogue, now = catalogue_of(seen.declared), self.clock.now()
        wishes = {one.document.metadata.name: one.document for one in seen.declared.policies}
        by_host: dict[str, Mapping[str, Offer]] = {}
        changed: list[tuple[Accelerator, Sequence[Event]]] = []
        found = self.accelerators.found_on(list(seen.hosts))
        since = self.rules.since(seen.declared)  # last: who is allowed a wish by what comes later changes its version
        for one in found:
            host, address = one.host or "", one.address or ""
            if host not in by_host:
                by_host[host] = offers_of(seen.hosts[host], catalogue)
            if address not in by_host[host]:
                continue
            if of_accelerator(one, catalogue) != wishes.get(name_of("accelerator", one.uuid)):
                continue  # somebody wants something else of it since the look began: the next pass sees that
            if since.differs_of_device(seen.hosts[host], address):
                continue  # somebody has written something else
            as_seen = observed(one, by_host[host][address], seen.hosts[host])
            if as_seen != one:
                changed.append((replace(as_seen, updated_at=now), list(_news(one, as_seen, now))))
        if changed:
            self.accelerators.record(changed)


def _news(one: Accelerator, as_seen: Accelerator, now: datetime) -> Iterator[Event]:
    """Yield what is told of an accelerator: that it is in another state, and that a policy says what somebody set."""
    overruled = one.desired_state != as_seen.desired_state and as_seen.state_policy
    if overruled:
        yield _event("AcceleratorOverruled", one, as_seen, now, policy=as_seen.state_policy)
    if as_seen.state != one.state:
        yield _event(f"Accelerator{as_seen.state.title()}", one, as_seen, now)


def _event(kind: str, one: Accelerator, as_seen: Accelerator, now: datetime, **more: str) -> Event:
    name = "desired_state" if more else "state"
    data = {"before": {name: getattr(one, name)}, "after": {name: getattr(as_seen, name)}}
    message = ": ".join((one.name, *(f"policy {policy} declares its state" for policy in more.values())))
    return Event(now, kind, one.host or "", message, {"accelerator": one.uuid, **data, **more})


def offers_of(view: HostView, catalogue: Catalogue) -> Mapping[str, Offer]:
    """Return what a host offers, by address; nothing where it was not observed."""
    if view.desired is None or view.subject is None:
        return {}
    found = units(view.subject.facts, catalogue)
    return {one.address: one for one in offers(found, view.plan, view.desired, view.subject, view.failed_in)}


def observed(one: Accelerator, offer: Offer, view: HostView) -> Accelerator:
    """Return *one* as it was seen: its *offer*, and which policies declare its state and its binding."""
    changed = replace(
        one,
        state="inactive" if offer.state == "ready" and one.told_health is not Health.HEALTHY else offer.state,
        health=offer.health,
        setup_required=offer.setup_required,
        reboot_required=offer.reboot_required,
    )
    changed = _bound(changed, view)
    if offer.desired_state is None:  # it cannot be told
        return changed
    if _is_own(offer.declared_by, one) or (offer.declared_by is None and not one.state_policy):
        return replace(changed, state_policy="")
    # A policy declares it, or one has done so until now: what an operator had set before is not remembered.
    place = offer.declared_by.place if offer.declared_by else ""
    return replace(changed, desired_state=offer.desired_state, state_policy=place)


def _is_own(origin: Origin | None, one: Accelerator) -> bool:
    """Return whether what *origin* declares is what an operator asked of the accelerator itself."""
    return origin is not None and origin.policy == name_of("accelerator", one.uuid)


def _bound(one: Accelerator, view: HostView) -> Accelerator:
    """Return *one* with the policy that declares its binding; where that changes, its attachment is settled anew."""
    rules = HostRules(view.desired, view.subject) if view.desired is not None and view.subject is not None else None
    said = rules.binding(one.address) if rules is not None and one.address is not None else None
    policy = said.policy if said is not None else ""
    held = one.attachment
    if policy == one.binding_policy or held is None or held.host is None or held.host != one.host:
        return replace(one, binding_policy=policy)
    return replace(one, binding_policy=policy, attachment=replace(held, status="pending"))

# SPDX-License-Identifier: Apache-2.0
"""Which accelerators are ready, now that their hosts were looked at? What a survey says of them, where they are kept.

Called by the loop after every pass. Decided from the survey alone: what was verified is offered, whoever set it up. All
I/O goes through the store; what is as it was is not written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from cyborg_reconciler.conductor.implied import Catalogue, catalogue_of, name_of
from cyborg_reconciler.core.accelerators import units
from cyborg_reconciler.core.features import binding
from cyborg_reconciler.core.offer import Offer, offers
from cyborg_reconciler.core.state import Origin
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores import Accelerator, ObservedAccelerators
from cyborg_reconciler.survey import HostView, Survey


@dataclass(frozen=True, slots=True)
class Offering:
    """Keeps accelerators as their hosts were seen."""

    accelerators: ObservedAccelerators
    clock: Clock

    def record(self, seen: Survey) -> None:
        """Note what *seen*, the end of a pass, says of accelerators; of hosts that were not observed, nothing.

        Raises:
            JournalError: the database cannot be used.
        """
        catalogue, now = catalogue_of(seen.declared), self.clock.now()
        by_host: dict[str, Mapping[str, Offer]] = {}
        changed: list[tuple[Accelerator, Event | None]] = []
        for one in self.accelerators.found_on(list(seen.hosts)):
            host, address = one.host or "", one.address or ""
            if host not in by_host:
                by_host[host] = offers_of(seen.hosts[host], catalogue)
            if address not in by_host[host]:
                continue
            as_seen = observed(one, by_host[host][address], seen.hosts[host])
            if as_seen != one:
                event = _turned(one, as_seen, now) if as_seen.state != one.state else None
                changed.append((replace(as_seen, updated_at=now), event))
        if changed:
            self.accelerators.record(changed)


def _turned(one: Accelerator, as_seen: Accelerator, now: datetime) -> Event:
    """Return what is told of an accelerator that has come into another state."""
    data = {"accelerator": one.uuid, "before": {"state": one.state}, "after": {"state": as_seen.state}}
    return Event(now, f"Accelerator{as_seen.state.title()}", one.host or "", one.name, data)


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
        state=offer.state,
        health=offer.health,
        setup_required=offer.setup_required,
        reboot_required=offer.reboot_required,
        binding_policy=_binding_policy(one, view),
    )
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


def _binding_policy(one: Accelerator, view: HostView) -> str:
    """Return the policy that declares the binding of the device, with its place; empty where none does."""
    if view.desired is None or one.address is None:
        return ""
    path = (one.address, binding.NAME, "driver")
    origin = view.desired.origin(path) if path in view.desired.fields else None
    return "" if origin is None or not origin.policy or _is_own(origin, one) else origin.place

# SPDX-License-Identifier: Apache-2.0
"""What has become of what was asked for over the API, now that its host was looked at again?

Called by the loop after every pass, before the hosts leave the queue: a pass that was broken off is made again, and
settles then. Decided from the survey alone, whoever made the change; what is declared otherwise since the look began
waits for the next pass. All I/O goes through the stores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cyborg_reconciler.conductor.implied import Catalogue, binding_of, catalogue_of, name_of
from cyborg_reconciler.conductor.rules import Rules
from cyborg_reconciler.core.features import binding, driver
from cyborg_reconciler.core.resolve import Desired
from cyborg_reconciler.core.rules import HostRules, is_written
from cyborg_reconciler.core.state import ABSENT, HOST, FieldPath, Phase, Reason, Value, Wait
from cyborg_reconciler.core.subject import driver_name
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores.accelerators import Accelerator, AttachStatus, ObservedAccelerators
from cyborg_reconciler.stores.work import HostDriver, HostDriverStore, RunNews
from cyborg_reconciler.survey import HostView, Survey

#: What a host's run that did not come out well says of its steps.
BAD_STEPS = frozenset({"refused", "failed"})


@dataclass(frozen=True, slots=True)
class Settling:
    """Tells runs that were asked for, and attachments to hosts, what has become of them."""

    drivers: HostDriverStore
    accelerators: ObservedAccelerators
    rules: Rules
    clock: Clock

    def settle(self, seen: Survey) -> None:
        """Note what *seen*, the end of a pass, says of what was asked for.

        Raises:
            JournalError: the database cannot be used.
        """
        catalogue = catalogue_of(seen.declared)
        awaited = self.drivers.awaited(list(seen.hosts))
        since = self.rules.since(seen.declared)  # last: a wish that was allowed meanwhile is not among those
        for asked in awaited:
            view = seen.hosts[asked.host]
            news = news_of(asked, view, catalogue)
            if news is not None and not since.differs_of_driver(view, asked.driver):
                self.drivers.tell(asked, news, self.clock.now())
        self._settle_attachments(seen, catalogue)

    def _settle_attachments(self, seen: Survey, catalogue: Catalogue) -> None:
        now = self.clock.now()
        changed: list[tuple[Accelerator, Sequence[Event]]] = []
        unsettled = self.accelerators.unsettled(list(seen.hosts))
        since = self.rules.since(seen.declared)
        for one in unsettled:
            held = one.attachment
            if held is None or held.host is None or since.differs_of_device(seen.hosts[held.host], one.address or ""):
                continue
            status, why = status_of(one, seen.hosts[held.host], catalogue)
            if status != held.status:
                kind = "AttachmentDone" if status == "done" else "AttachmentFailed"
                data = {"accelerator": one.uuid, **({"reason": why} if why else {})}
                event = Event(now, kind, held.host, ": ".join(filter(None, (one.name, why))), data)
                changed.append((replace(one, attachment=replace(held, status=status), updated_at=now), [event]))
        if changed:
            self.accelerators.record(changed)


def news_of(asked: HostDriver, view: HostView, catalogue: Catalogue) -> RunNews | None:
    """Return what has become of a driver that was *asked* for; None where the look began before it was declared."""
    if asked.driver not in catalogue:
        return RunNews("failed", f"there is no driver {asked.driver} any more")
    if view.desired is None:
        return RunNews("pending", _words(next(iter(view.plan.waits), None)))
    if name_of("driver", asked.host, asked.driver) not in view.desired.policies:
        return None
    fields = view.desired.fields
    otherwise = next((p for p, value in _wanted(asked, catalogue).items() if fields.get(p) != value), None)
    if otherwise is not None:
        return _declared_otherwise(otherwise, view.desired)
    return _news(view, (HOST, driver.NAME, asked.driver), f"{driver.NAME} {asked.driver}")


def _wanted(asked: HostDriver, catalogue: Catalogue) -> Mapping[FieldPath, Value]:
    """Return the fields that are to be desired because of what was *asked* for."""
    path = (HOST, driver.NAME, asked.driver)
    wanted: dict[FieldPath, Value] = {(*path, "state"): ABSENT if asked.state == "absent" else driver.PRESENT}
    if asked.version is not None and asked.state == "present" and catalogue[asked.driver].dkms is None:
        wanted[*path, "version"] = asked.version
    return wanted


def _declared_otherwise(path: FieldPath, desired: Desired) -> RunNews | None:
    """Return what becomes of a run since another value than what it is for, or none, is desired at *path*."""
    if path not in desired.fields:
        return RunNews("pending", "its devices are declared inactive: no driver is set up for them")
    origin = desired.origin(path)
    if not is_written(origin):
        return None  # the look was made for what was asked for before
    return RunNews("failed", f"policy {origin.place} declares it otherwise")


def status_of(one: Accelerator, view: HostView, catalogue: Catalogue) -> tuple[AttachStatus, str]:
    """Return where the attachment of *one* to the host of *view* is, and why it failed, where it did."""
    assert one.attachment is not None  # noqa: S101  that is what is asked about
    as_it_was = one.attachment.status
    if view.desired is None or view.subject is None:
        return as_it_was, ""
    bound_to = binding_of(one, catalogue)
    said = HostRules(view.desired, view.subject).binding(one.address or "")
    if said is not None and said.value != bound_to:
        return "failed", f"policy {said.policy} binds it to {said.value}"
    if bound_to is None or one.address is None:
        return "done", ""  # there is nothing to be bound
    path = (one.address, binding.NAME, "driver")
    if one.address not in view.subject.devices or view.desired.fields.get(path) != driver_name(bound_to):
        return as_it_was, ""  # the look began before it was attached, or its device is gone
    news = _news(view, path[:2], f"{binding.NAME} {one.address}")
    statuses: dict[str, AttachStatus] = {"applied": "done", "failed": "failed", "pending": as_it_was}
    return statuses[news.status], news.message if news.status == "failed" else ""


def _news(view: HostView, prefix: FieldPath, step: str) -> RunNews:
    """Return where the fields below *prefix*, which *step* sets, are: as declared, failed in this pass, or waiting."""
    plan = view.plan
    waits = [wait for wait in plan.waits if wait.reason is Reason.CONFLICTED or _is_about(wait, prefix)]
    acts = any(change.path[: len(prefix)] == prefix for action in plan.actions for change in action.changes)
    blind = any(path[: len(prefix)] == prefix for path, _ in plan.blind_spots)
    if not (waits or acts or blind):
        return RunNews("applied", by=view.run)
    steps = view.outcome.steps if view.outcome else ()
    bad = next((one for one in steps if one.id == step and one.status in BAD_STEPS), None)
    went_wrong = view.outcome is not None and (view.outcome.status != "applied" or view.failed_in is not None)
    if bad is not None or (went_wrong and not waits):
        return RunNews("failed", _what_went_wrong(view), view.run)
    if waits or blind:
        return RunNews("pending", _words(next(iter(waits), None) or next(iter(plan.waits), None)))
    words = "ask somebody to approve it" if view.phase is Phase.PENDING_APPROVAL else "it is begun in a later pass"
    return RunNews("pending", f"{view.phase}: {words}")


def _is_about(wait: Wait, prefix: FieldPath) -> bool:
    changes = wait.action.changes if wait.action else ()
    return any(change.path[: len(prefix)] == prefix for change in changes)


def _words(wait: Wait | None) -> str:
    return f"{wait.reason}: {wait.text}" if wait else ""


def _what_went_wrong(view: HostView) -> str:
    """Return why the last change of a host did not come out well."""
    outcome = view.outcome
    if outcome is None or outcome.status == "applied":
        return "it was carried out, and is not so"
    for step in outcome.steps:
        if step.status in BAD_STEPS:
            return ": ".join(part for part in (step.id, step.reason, step.message) if part)
    return ": ".join(part for part in (outcome.status, outcome.message) if part)

# SPDX-License-Identifier: Apache-2.0
"""What becomes of an accelerator: created, claimed, described, made ready, attached, detached.

Called by the API. All I/O goes through the store; what is read may have changed when it is written, and then the
version says so.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, get_args

from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.implied import module_of
from cyborg_reconciler.conductor.rules import Rules
from cyborg_reconciler.core.rules import HostRules
from cyborg_reconciler.core.subject import driver_name
from cyborg_reconciler.documents.rest.accelerator import AcceleratorGiven, AttachmentGiven, PatchStep, SpecsGiven
from cyborg_reconciler.documents.rest.base import is_title
from cyborg_reconciler.errors import (
    ConflictError,
    FieldError,
    ForbiddenError,
    NotFoundError,
    OvertakenError,
    RequestInvalidError,
)
from cyborg_reconciler.ports import Clock, Event
from cyborg_reconciler.stores import Accelerator, AcceleratorStore, Attachment, State, laid_over

#: The keys of a specification, and under which names an accelerator has them.
SPEC_FIELDS: Final = {
    "remote": "remotable",
    "num": "num",
    "device_type": "device_type",
    "acc_type": "acc_type",
    "vendor_id": "vendor_id",
    "product_id": "product_id",
}


#: Characters of a description.
MOST_OF_A_DESCRIPTION: Final = 4096


@dataclass(frozen=True, slots=True)
class Accelerators:
    """What callers ask to become of accelerators; each method returns the accelerator as it is then.

    *seen*: the version that the caller has read, where he says so. Every method but `create` raises NotFoundError,
    and OvertakenError when somebody else was faster.
    """

    store: AcceleratorStore
    rules: Rules
    clock: Clock

    def create(self, caller: Caller, given: AcceleratorGiven) -> Accelerator:
        """Keep a new accelerator, or claim one that discovery found: by its uuid, or by its host and address.

        Raises:
            ConflictError: the name or the uuid is taken.
        """
        found = self._unclaimed(given)
        now = self.clock.now()
        if found is not None:
            specs = given.acc_specs or SpecsGiven()
            claimed = replace(with_specs(found, specs), name=given.name, claimed=True, updated_at=now)
            return self.store.update(claimed, found.version, _event(now, "AcceleratorClaimed", caller, claimed))
        if given.address is not None:
            raise ConflictError(
                wanted=f"an accelerator at {given.address} of {given.host}",
                found="there is none that nobody has claimed",
                remedy="see /v1/hosts/{host}/hardware for what was found there",
            )
        fields = _spec_fields(given.acc_specs or SpecsGiven())
        capability = fields.pop("acc_capability", {})
        # What stands on a host must be set up there first; what is on none is whatever its owner says.
        state: State = "inactive" if given.host else "ready"
        one = Accelerator(
            uuid=given.uuid or str(uuid.uuid4()),
            name=given.name,
            created_at=now,
            updated_at=now,
            host=given.host,
            origin="api",
            claimed=True,
            state=state,
            desired_state="ready",
            acc_capability=capability,
            setup_required=given.host is not None,
            **fields,
        )
        self.store.add(one, _event(now, "AcceleratorCreated", caller, one))
        return one

    def _unclaimed(self, given: AcceleratorGiven) -> Accelerator | None:
        """Return the accelerator that discovery found and that *given* claims."""
        found = None
        if given.uuid is not None:
            found = self.store.accelerator(given.uuid)
        elif given.host is not None and given.address is not None:
            found = self.store.at(given.host, given.address)
        if found is not None and (found.claimed or found.origin == "api"):
            raise ConflictError(
                wanted=f"to create {given.name}",
                found=f"accelerator {found.uuid} is there already, as {found.name}",
                remedy="choose another uuid, or update that one",
            )
        return found

    def describe(self, caller: Caller, uuid_: str, specs: SpecsGiven, seen: int | None) -> Accelerator:
        """Change the specification.

        Raises:
            ConflictError: it is discovery's to say. ForbiddenError: it is not attached to the caller's project.
        """
        one = self._read(uuid_, seen)
        if not _is_of(caller, one.attachment):
            _require_admin(caller, f"to change the specification of {one.name}")
        changed = with_specs(one, specs)
        return self._write(changed, one, caller, "AcceleratorUpdated") if changed != one else one

    def attach(self, caller: Caller, uuid_: str, given: AttachmentGiven, seen: int | None) -> Accelerator:
        """Attach to a VM, which Nova carries out; to a host, which is declared, carried out and verified; to a project.

        Raises:
            RequestInvalidError: the body is of another accelerator, or names another host than its own.
            ConflictError: it is attached, it is not ready, or a policy declares another binding.
        """
        one = self._read(uuid_, seen)
        _check_is_about(one, given)
        if one.attachment is not None:
            raise ConflictError(
                wanted=f"to attach {one.name}", found="it is attached already", remedy="detach it first"
            )
        unready = next((state for state in (one.state, one.desired_state) if state != "ready"), None)
        if unready is not None:
            raise ConflictError(
                wanted=f"to attach {one.name}", found=f"it is {unready}", remedy="set it ready, and wait until it is"
            )
        now = self.clock.now()
        changed = one
        host = given.host or (None if given.instance_uuid else one.host)
        if host is not None:
            declared_by, policy = self._binding_policies(one)
            if policy:
                raise ConflictError(
                    wanted=f"to attach {one.name} to {host}",
                    found=f"policy {policy} declares its binding",
                    remedy="change the policy",
                )
            changed = replace(one, binding_policy=declared_by)  # that of the last pass may be gone
        if given.instance_uuid is not None:
            held = Attachment("done", now, instance_uuid=given.instance_uuid, project_id=caller.project)
        elif host is not None:
            held = Attachment("pending", now, host=host, project_id=caller.project)
        else:
            held = Attachment("done", now, project_id=caller.project)
        return self._write(replace(changed, attachment=held), one, caller, "AcceleratorAttached")

    def detach(self, caller: Caller, uuid_: str, seen: int | None) -> Accelerator:
        """Detach; the accelerator itself stays.

        Raises:
            ForbiddenError: it is attached to another project. ConflictError: there are allocations of it; whose these
            are is told whoever may detach it.
        """
        one = self._read(uuid_, seen)
        is_his = _is_of(caller, one.attachment)
        if one.attachment is not None and not is_his:
            _require_admin(caller, f"to detach {one.name}")
        consumers = self.store.allocated(uuid_)
        if consumers:
            names = consumers[:3] if is_his or caller.role == Role.ADMIN else ["consumers of other projects"]
            verb = "has" if names == consumers[:1] else "have"
            raise ConflictError(
                wanted=f"to detach {one.name}",
                found=f"{', '.join(names)} {verb} an allocation of it",
                remedy="let its consumers give it back first",
            )
        if one.attachment is None:
            return one
        return self._write(replace(one, attachment=None), one, caller, "AcceleratorDetached")

    def patch(self, caller: Caller, uuid_: str, steps: Sequence[PatchStep], seen: int | None) -> Accelerator:
        """Change name, description and desired state, all or nothing.

        Raises:
            RequestInvalidError: a value is not one. ConflictError: a test fails, a policy declares the state, or the
            name is taken.
        """
        one = self._read(uuid_, seen)
        changed = one
        wished = False
        for number, step in enumerate(steps):
            name = "desired_state" if step.path in {"/state", "/desired_state"} else step.path[1:]
            if step.op == "test":
                if getattr(changed, name) != step.value:
                    raise ConflictError(wanted=f"{step.path} to be {step.value}", found=f"{getattr(changed, name)}")
                continue
            changed = replace(changed, **{name: _checked(name, step.value, number)})
            wished = wished or name == "desired_state"
        if wished:
            policy = self._state_policy(one)
            if policy and changed.desired_state != one.desired_state:
                raise ConflictError(
                    wanted=f"{one.name} {changed.desired_state}",
                    found=f"policy {policy} declares its state",
                    remedy="change the policy",
                )
            changed = replace(changed, state_policy=policy)  # that of the last pass may be gone: then this wish counts
        if changed.desired_state != one.desired_state:
            changed = _no_longer_offered(changed)
        return self._write(changed, one, caller, "AcceleratorPatched") if changed != one else one

    def _rules_of(self, one: Accelerator) -> HostRules | None:
        return self.rules.of(one.host) if one.host is not None and one.address is not None else None

    def _state_policy(self, one: Accelerator) -> str:
        """Return the policy that declares the state of *one*; empty where none does."""
        rules = self._rules_of(one)
        said = rules.state(one.address or "") if rules is not None else None
        return one.state_policy if said is None else said

    def _binding_policies(self, one: Accelerator) -> tuple[str, str]:
        """Return the policy that declares the binding of *one*, and the one that an attachment to its host is against.

        The latter binds to another driver than the attachment would; each is empty where there is none.
        """
        rules = self._rules_of(one)
        if rules is None or rules.state(one.address or "") is None:  # it cannot be told
            return one.binding_policy, one.binding_policy
        said = rules.binding(one.address or "")
        if said is None:
            return "", ""
        module = module_of(one, rules.subject.catalogue)
        is_same = module is not None and said.value == driver_name(module)
        return said.policy, "" if is_same else said.policy

    def _read(self, uuid_: str, seen: int | None) -> Accelerator:
        one = self.store.accelerator(uuid_)
        if one is None:
            raise NotFoundError(wanted=f"accelerator {uuid_}", found="there is none")
        if seen is not None and one.version != seen:
            raise OvertakenError(wanted=f"accelerator {uuid_} as it was read", found="another process updated it first")
        return one

    def _write(self, changed: Accelerator, one: Accelerator, caller: Caller, kind: str) -> Accelerator:
        now = self.clock.now()
        changed = replace(changed, updated_at=now)
        return self.store.update(changed, one.version, _event(now, kind, caller, changed, one))


def with_specs(one: Accelerator, specs: SpecsGiven) -> Accelerator:
    """Return *one* with *specs*: what an operator created is his; of what was found, discovery says the rest.

    Raises:
        ConflictError: discovery says otherwise.
    """
    fields = _spec_fields(specs)
    capability = fields.pop("acc_capability", None)
    if one.origin == "api":
        return replace(one, **fields, **({} if capability is None else {"acc_capability": capability}))
    differing = [key for key, value in fields.items() if key != "remotable" and getattr(one, key) != value]
    if differing:
        raise ConflictError(
            wanted=f"{', '.join(f'{key} {fields[key]}' for key in differing)} for {one.name}",
            found=f"discovery found {', '.join(str(getattr(one, key)) for key in differing)}",
            remedy="leave out what was discovered",
        )
    overlay = one.overlay if capability is None else laid_over(one.overlay, capability)
    return replace(one, remotable=fields.get("remotable", one.remotable), overlay=overlay)


def _spec_fields(specs: SpecsGiven) -> dict[str, Any]:
    """Return what *specs* say, by the names that an accelerator has for it."""
    given = specs.model_dump(exclude_none=True)
    return {SPEC_FIELDS.get(key, key): value for key, value in given.items()}


def _no_longer_offered(one: Accelerator) -> Accelerator:
    """Return *one* in the state that is desired of it now, unless that is ready and a host has to show it first."""
    return one if one.host is not None and one.desired_state == "ready" else replace(one, state=one.desired_state)


def _checked(name: str, value: object, number: int) -> Any:  # noqa: ANN401 - a field's value
    """Return *value* if a field called *name* may have it."""
    if name == "desired_state" and value in get_args(State):
        return value
    if name == "name" and isinstance(value, str) and is_title(value):
        return value
    if name == "description" and isinstance(value, str) and len(value) <= MOST_OF_A_DESCRIPTION and value.isprintable():
        return value
    words = f"one of {', '.join(get_args(State))}" if name == "desired_state" else "one line of text of that length"
    raise RequestInvalidError("the patch", [FieldError(f"$[{number}].value", f"is not {words}")])


def _check_is_about(one: Accelerator, given: AttachmentGiven) -> None:
    """Raise RequestInvalidError where *given* is of another accelerator, or of a host that it is not on."""
    wrong = [
        FieldError(f"$.{key}", f"the accelerator has {found}")
        for key, value, found in (("name", given.name, one.name), ("uuid", given.uuid, one.uuid))
        if value not in {None, found}
    ]
    if given.host is not None and one.host is not None and given.host != one.host:
        wrong.append(FieldError("$.host", f"it is on {one.host}"))
    if wrong:
        raise RequestInvalidError("the attachment", wrong)


def _is_of(caller: Caller, held: Attachment | None) -> bool:
    return held is not None and held.project_id == caller.project


def _require_admin(caller: Caller, wanted: str) -> None:
    if caller.role < Role.ADMIN:
        raise ForbiddenError(
            wanted=wanted, found="it is not attached to your project", remedy="attach it first, or ask an admin"
        )


def _event(now: datetime, kind: str, caller: Caller, one: Accelerator, before: Accelerator | None = None) -> Event:
    """Return the entry of the audit trail: who did what to which accelerator, and what differs from before."""
    after, known = _told(one), _told(before) if before is not None else {}
    changed = [key for key, value in after.items() if key not in known or known[key] != value]
    data: dict[str, Any] = {
        **caller.trace(),
        "accelerator": one.uuid,
        "name": one.name,
        "after": {key: after[key] for key in changed},
    }
    if before is not None:
        data["before"] = {key: known[key] for key in changed}
    return Event(now, kind, one.host or "", f"{caller.name}: {one.name}", data)


def _told(one: Accelerator) -> Mapping[str, Any]:
    """Return what the audit trail keeps of an accelerator: all that a caller can change."""
    held = one.attachment
    return {
        "name": one.name,
        "description": one.description,
        "host": one.host,
        "claimed": one.claimed,
        "state": one.state,
        "desired_state": one.desired_state,
        **{key: getattr(one, name) for key, name in SPEC_FIELDS.items()},
        "acc_capability": laid_over(one.acc_capability, one.overlay),
        "attached_to": (held.instance_uuid or held.host or held.project_id) if held else None,
    }

# SPDX-License-Identifier: Apache-2.0
"""What becomes of an accelerator: created, claimed, described, made ready, attached, detached.

Called by the API. All I/O goes through the store; what is read may have changed when it is written, and then the
version says so.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, get_args
from urllib.parse import quote

from cyborg_reconciler.conductor.accelerator_events import event_of
from cyborg_reconciler.conductor.accelerator_specs import spec_fields, with_specs
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.conductor.implied import module_of
from cyborg_reconciler.conductor.rules import Rules
from cyborg_reconciler.core.rules import HostRules, Said
from cyborg_reconciler.core.state import Health
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
from cyborg_reconciler.ports import Clock
from cyborg_reconciler.stores.accelerators import (
    Accelerator,
    AcceleratorStore,
    Attachment,
    Device,
    HardwareStore,
    State,
)

#: Characters of a description.
MOST_OF_A_DESCRIPTION: Final = 4096


@dataclass(frozen=True, slots=True)
class Accelerators:
    """What callers ask to become of accelerators; each method returns the accelerator as it is then.

    *seen*: the version that the caller has read, where he says so. Every method but `create` raises NotFoundError,
    and OvertakenError when somebody else was faster.
    """

    store: AcceleratorStore
    hardware: HardwareStore
    rules: Rules
    clock: Clock

    def create(self, caller: Caller, given: AcceleratorGiven) -> Accelerator:
        """Keep a new accelerator, or claim one that discovery found: by its uuid, or by its host and address.

        What is claimed is to be ready, as all that an operator creates, unless a policy says what it is to be, or
        somebody has it in maintenance.

        Raises:
            RequestInvalidError: there is no such host, or what has the uuid is elsewhere.
            ConflictError: the name or the uuid is taken, or the hardware is no accelerator.
        """
        self._require_host(given.host, "the body")
        found = self._unclaimed(given)
        now = self.clock.now()
        if found is not None:
            claimed = replace(with_specs(found, given.acc_specs or SpecsGiven()), name=given.name, claimed=True)
            if found.desired_state == "inactive" and not self._declared(found).policy:
                claimed = replace(claimed, desired_state="ready", state_policy="")
            return self._write(claimed, found, caller, "AcceleratorClaimed")
        fields = spec_fields(given.acc_specs or SpecsGiven())
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
        self.store.add(one, event_of(now, "AcceleratorCreated", caller, one))
        return one

    def _unclaimed(self, given: AcceleratorGiven) -> Accelerator | None:
        """Return the accelerator that discovery found and that *given* claims; None where it claims nothing."""
        found, device = None, None
        if given.uuid is not None:
            found, device = self.store.accelerator(given.uuid), self.hardware.device(given.uuid)
        elif given.host is not None and given.address is not None:
            place = given.host, given.address
            found, device = self.store.at(*place), self.hardware.device_at(*place)
        if found is not None and (found.claimed or found.origin == "api"):
            raise ConflictError(
                wanted=f"to create {given.name}",
                found=f"accelerator {found.uuid} is there already, as {found.name}",
                remedy="choose another uuid, or update that one",
            )
        # What is gone may come back, and is claimed; what is there and offered no more is not.
        if found is not None and (found.present or device is None or device.is_accelerator):
            _check_is_at(found, given)
            return found
        if device is not None or given.address is not None:
            raise _not_offered(device, given)
        return None

    def _require_host(self, name: str | None, what: str) -> None:
        """Raise RequestInvalidError where *what* names a host that there is not."""
        if name is not None and not self.hardware.has_host(name):
            raise RequestInvalidError(what, [FieldError("$.host", "there is no such host")])

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
            RequestInvalidError: the body is of another accelerator, or names another host than its own, or none.
            ConflictError: it is attached, it is not ready, or a policy declares another binding.
        """
        one = self._read(uuid_, seen)
        _check_is_about(one, given)
        self._require_host(given.host, "the attachment")
        if one.attachment is not None:
            raise ConflictError(
                wanted=f"to attach {one.name}", found="it is attached already", remedy="detach it first"
            )
        unready = next((state for state in (one.state, one.desired_state) if state != "ready"), None)
        if unready is not None:
            raise ConflictError(
                wanted=f"to attach {one.name}",
                found=f"it is {unready}",
                remedy=one.waits or "set it ready, and wait until it is",
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
            changed = replace(changed, state_policy=self._yielding(one, changed.desired_state))
        if changed.desired_state != one.desired_state:
            changed = _no_longer_offered(changed)
        return self._write(changed, one, caller, "AcceleratorPatched") if changed != one else one

    def _yielding(self, one: Accelerator, wish: State) -> str:
        """Return what *one* keeps as the policy of its state now that an operator wants it as a *wish* says.

        That of the last pass where it is the one that still declares the state. Where another one does, or none any
        more, the wish counts until a pass has noted otherwise.

        Raises:
            ConflictError: a policy declares another state, or what is wanted of its PF is wanted of it.
        """
        self._check_pf(one, wish)
        said = self._declared(one)
        if said.policy and said.value != wish:
            raise ConflictError(
                wanted=f"{one.name} {wish}",
                found=f"policy {said.policy} declares its state",
                remedy="change the policy",
            )
        return one.state_policy if said.policy == one.state_policy else ""

    def _check_pf(self, one: Accelerator, wish: State) -> None:
        """Raise ConflictError where *one* is a VF that will be as its PF is wanted, whatever is wished of it."""
        pf = self.store.accelerator(one.parent) if one.parent is not None else None
        if pf is None or pf.state_policy or pf.health is Health.MISSING:
            return
        if pf.desired_state != wish and (pf.desired_state == "maintenance" or wish == "inactive"):
            raise ConflictError(
                wanted=f"{one.name} {wish}",
                found=f"its PF, {pf.name}, is to be {pf.desired_state}, and its VFs with it",
                remedy=f"change that one, {pf.uuid}",
            )

    def _rules_of(self, one: Accelerator) -> HostRules | None:
        return self.rules.of(one.host) if one.host is not None and one.address is not None else None

    def _declared(self, one: Accelerator) -> Said:
        """Return the state that a policy declares of *one*; as the last pass noted it where it cannot be told."""
        rules = self._rules_of(one)
        said = rules.state(one.address or "") if rules is not None else None
        return Said(one.desired_state, one.state_policy) if said is None else said

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
        return self.store.update(changed, one.version, event_of(now, kind, caller, changed, one))


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


def _check_is_at(one: Accelerator, given: AcceleratorGiven) -> None:
    """Raise RequestInvalidError where *given* claims *one* by its uuid and has it elsewhere."""
    wrong = [
        FieldError(f"$.{key}", f"what has the uuid is {found or 'on none'}")
        for key, value, found in (("host", given.host, one.host), ("address", given.address, one.address))
        if value not in {None, found}
    ]
    if wrong:
        raise RequestInvalidError("the body", wrong)


def _not_offered(device: Device | None, given: AcceleratorGiven) -> ConflictError:
    """Return why *given* cannot claim what is where it says, or has its uuid."""
    host, address = (given.host, given.address) if device is None else (device.host, device.address)
    kinds = "a bridge or the like, a PF whose VFs are offered, or of a kind that is not known"
    shown = quote(host or "", safe="")
    return ConflictError(
        wanted=f"an accelerator at {address} of {host}",
        found=f"what is there is no accelerator: {kinds}" if device else "nothing was found there",
        remedy=f"/v1/hosts/{shown}/hardware has what was found, /v1/accelerators?host={shown} what can be claimed",
    )


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

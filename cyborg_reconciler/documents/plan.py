# SPDX-License-Identifier: Apache-2.0
"""How a plan travels to the hosts and comes back: the versioned JSON that controller and collection share.

Written by `core.plan`, read by the collection's `apply` plugins; outcomes go the other way. Pure.
"""

from typing import Any, Final, Literal

import msgspec

from cyborg_reconciler.errors import PlanUnreadableError

#: The only version of the plan document that this release writes and reads.
PLAN_VERSION: Final = 1

#: Any JSON value: a step's parameters are its module's affair, and their shape is checked there.
Json = Any


class Own(msgspec.Struct, frozen=True):
    """A field to enter in the host's record: where, what it was, what it is set to.

    *device*: which device it is of, by ids and serial (``8086:4940 SN123``). Of what is the host's: the device that a
    policy asks for it for, with its address (``0000:6b:00.0 8086:4940 SN123``); empty where none is.
    """

    path: list[str]
    before: Json
    set: Json
    device: str = ""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One call of one state module inside an ``actions`` segment.

    Attributes:
        id: unique in the host's plan, e.g. ``sriov 0000:6b:00.0``.
        module: a state module of the collection, without the namespace.
        args: its parameters.
        observed: what the plan was made from, in the words of the module's ``before``; anything else found there is a
            refusal (unless it is already as desired: then the step is a no-op).
        own: fields to record as owned before the write. release: paths that go back to what they were and are then
            forgotten.
    """

    id: str
    module: str
    args: dict[str, Json]
    observed: dict[str, Json] = {}
    own: list[Own] = []
    release: list[list[str]] = []


class ActionsSegment(msgspec.Struct, frozen=True, kw_only=True, tag="actions", tag_field="kind"):
    """Steps that one call of one module applies in order."""

    steps: list[Step]


class RoleSegment(msgspec.Struct, frozen=True, kw_only=True, tag="role", tag_field="kind"):
    """One include of a driver's role; *args* reach it as ``cyborg_driver``."""

    id: str
    role: str
    args: dict[str, Json]
    own: list[Own] = []
    release: list[list[str]] = []


class RebootSegment(msgspec.Struct, frozen=True, kw_only=True, tag="reboot", tag_field="kind"):
    """One reboot, skipped when the boot id is no longer *boot_id*: then it has happened."""

    id: str
    boot_id: str
    timeout_s: int


Segment = ActionsSegment | RoleSegment | RebootSegment


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The segments of one host, in order, with what they were computed from."""

    generation: int
    digest: str
    fingerprint: str
    segments: list[Segment]


def step_ids(plan: HostPlan) -> list[str]:
    """Return the ids of what is done on a host, in order."""
    return [
        one
        for segment in plan.segments
        for one in ([step.id for step in segment.steps] if isinstance(segment, ActionsSegment) else [segment.id])
    ]


class PlanDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A plan for many hosts, as it is saved and as it travels."""

    plan_version: int
    uuid: str
    created_at: str
    controller_id: str
    fencing_token: int
    hosts: dict[str, HostPlan]
    policies_digest: str = ""


#: The plan of a run that was asked for, until it has one of its own.
NO_PLAN: Final = PlanDocument(
    plan_version=PLAN_VERSION,
    uuid="00000000-0000-0000-0000-000000000000",
    created_at="",
    controller_id="",
    fencing_token=0,
    hosts={},
)

Status = Literal["changed", "unchanged", "refused", "failed", "skipped"]


class StepOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one step, role or reboot.

    Attributes:
        reason: of the plan's wait reasons when *status* is ``refused``, e.g. ``DeviceInUse``.
    """

    id: str
    status: Status
    before: dict[str, Json] = {}
    after: dict[str, Json] = {}
    reboot_required: bool = False
    reason: str = ""
    message: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one host's plan.

    Attributes:
        status: ``applied`` (every step changed or unchanged), ``refused``, ``failed``, ``unreachable``, ``cancelled``,
            or ``missing`` (the run ended without a word of this host: never taken for success).
    """

    status: Literal["applied", "refused", "failed", "unreachable", "cancelled", "missing"]
    steps: list[StepOutcome] = []
    message: str = ""


_decoder = msgspec.json.Decoder(PlanDocument)


def decode_plan(document: bytes | str) -> PlanDocument:
    """Return the plan that *document* holds.

    Raises:
        PlanUnreadableError: it is no JSON, not of this shape, or of another version.
    """
    try:
        plan = _decoder.decode(document)
    except msgspec.MsgspecError as exc:
        raise PlanUnreadableError(wanted=f"a plan of version {PLAN_VERSION}", found=str(exc)) from exc
    if plan.plan_version != PLAN_VERSION:
        raise PlanUnreadableError(wanted=f"a plan of version {PLAN_VERSION}", found=f"version {plan.plan_version}")
    return plan


def encode(document: PlanDocument | Outcome) -> bytes:
    """Return *document* as JSON."""
    return msgspec.json.encode(document)

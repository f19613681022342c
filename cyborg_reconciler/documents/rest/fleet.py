# SPDX-License-Identifier: Apache-2.0
"""What travels about hosts, backends, runs and events. Pure."""

from typing import Any, Literal

from pydantic import Field

from cyborg_reconciler.documents.rest.base import Answer, Link, Time, Uuid

SyncName = Literal["Synced", "OutOfSync", "Unknown"]
HealthName = Literal["Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"]
PhaseName = Literal[
    "Idle",
    "Planned",
    "PendingApproval",
    "WaitingForSlot",
    "Cordoning",
    "Draining",
    "Applying",
    "Rebooting",
    "Validating",
    "Uncordoning",
    "Failed",
]

ServiceType = Literal["agent", "api", "conductor", "driver", "worker"]
ServiceStatus = Literal["up", "down"]


class ConditionShown(Answer):
    """One thing that is true of a host, is not, or cannot be told."""

    type: str = Field(description="What it speaks of.", examples=["Ready"])
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.", examples=["True"])
    reason: str = Field(description="Why, in one word.", examples=["Synced"])
    message: str = Field(description="Why, for people.", examples=["everything declared is so"])
    last_transition_time: Time
    observed_generation: int = Field(description="By which generation it was judged.", examples=[3])


class HostShown(Answer):
    """A compute node, and where it stands."""

    name: str = Field(description="As the inventory has it.", examples=["compute-1"])
    uuid: Uuid = Field(description="Its own, from when it was first seen.")
    sync: SyncName = Field(description="Whether it is as declared.", examples=["Synced"])
    health: HealthName = Field(description="How it is doing.", examples=["Healthy"])
    phase: PhaseName = Field(description="Where in a change it is.", examples=["Idle"])
    failed_in: PhaseName | None = Field(description="The phase in which the last change failed.", examples=[None])
    reason: str = Field(description="Why it waits or failed; empty when it does neither.", examples=[""])
    message: str = Field(description="The same for people.", examples=[""])
    generation: int = Field(description="Rises with each change of what is desired of it.", examples=[3])
    conditions: list[ConditionShown]
    fingerprint: str = Field(description="Of its newest facts.", examples=["9c1e…"])
    facts_received_at: Time | None = Field(description="When its newest facts came in; they may have been unchanged.")
    observed_at: Time | None = Field(description="When it was last compared with what is declared.")
    changed_at: Time | None = Field(description="When it was last changed.")
    agent_seen_at: Time | None = Field(description="When its agent was last heard, where it has one.")
    groups: list[str] = Field(description="Its groups in the inventory.", examples=[["crypto"]])
    labels: dict[str, str] = Field(description="Its labels in the inventory.", examples=[{"pool": "crypto"}])
    links: list[Link]


class HostList(Answer):
    """A page of hosts."""

    hosts: list[HostShown]
    links: list[Link]


class Backend(Answer):
    """One driver on one host."""

    uuid: Uuid = Field(description="Made of the host's uuid and the driver's name.")
    host: str = Field(description="The host.", examples=["compute-1"])
    driver: str = Field(description="The driver.", examples=["intel-qat"])
    health: HealthName = Field(description="That of the worst of its accelerators.", examples=["Healthy"])
    accelerators: int = Field(description="How many it has found.", examples=[4])
    states: dict[str, int] = Field(description="How many of them are in which state.", examples=[{"ready": 4}])
    type: str | None = Field(description="For which devices it is, by the host's agent.", examples=["CRYPTO"])
    status: str | None = Field(
        description="What the host's agent last said of it, where it is a driver of that: READY, IN-PROGRESS while it "
        "discovers, UNREACHABLE where it registered and does not answer.",
        examples=["READY"],
    )
    endpoint_known: bool = Field(description="Whether its agent told where it serves.", examples=[True])
    told_at: Time | None = Field(description="When that agent was last heard.")
    discovered_at: Time | None = Field(description="When what is on the host was last reported.")
    links: list[Link]


class ServiceShown(Answer):
    """A process that takes part, or a driver of an agent: and whether it is up."""

    uuid: Uuid = Field(description="Its own; one that is started again keeps it.")
    type: ServiceType = Field(description="What it is.", examples=["conductor"])
    name: str = Field(
        description="What else it is known by: where it listens, its state folder, or a driver's name.",
        examples=["http://192.0.2.10:6671"],
    )
    host: str = Field(description="The machine that it runs on.", examples=["ctl-1"])
    status: ServiceStatus = Field(description="Whether it has said so, or was heard, lately.", examples=["up"])
    message: str = Field(description="What it is at, or why it is not heard, for people.", examples=[""])
    version: str | None = Field(description="Its release, where it told that.", examples=["0.1.0"])
    started_at: Time | None = Field(description="Since when it runs; only of the control plane's.")
    last_seen_at: Time | None = Field(description="When it last said so, or was heard; null: never.")


class ServiceList(Answer):
    """A page of services."""

    services: list[ServiceShown]
    links: list[Link]


class BackendList(Answer):
    """A page of backends."""

    backends: list[Backend]
    links: list[Link]


class BackendService(Answer):
    """One kind of acceleration that a backend offers."""

    device_type: str = Field(description="What it is for.", examples=["CRYPTO"])
    acc_type: str = Field(description="Its kind, more closely.", examples=["QAT"])
    accelerators: int = Field(description="How many offer it.", examples=[4])
    ready: int = Field(description="How many of them are ready.", examples=[4])
    num: int = Field(description="How many units they have together.", examples=[4])


class BackendServices(Answer):
    """What a backend offers."""

    services: list[BackendService]
    links: list[Link]


class StepShown(Answer):
    """What came out of one step."""

    id: str = Field(description="The step.", examples=["sriov 0000:6b:00.0"])
    status: str = Field(description="changed, unchanged, refused, failed or skipped.", examples=["changed"])
    before: dict[str, Any] = Field(description="How it was.", examples=[{"num_vfs": 0}])
    after: dict[str, Any] = Field(description="How it is.", examples=[{"num_vfs": 4}])
    reboot_required: bool = Field(description="It takes effect with the next boot.", examples=[False])
    reason: str = Field(description="Why it was refused.", examples=[""])
    message: str = Field(description="The same for people.", examples=[""])


class OutcomeShown(Answer):
    """What came out for a host, step by step."""

    status: str = Field(description="applied, refused, failed, unreachable, cancelled, missing.", examples=["applied"])
    steps: list[StepShown]
    message: str = Field(description="For people.", examples=[""])


class RunHost(Answer):
    """A host of a run."""

    host: str = Field(description="The host.", examples=["compute-1"])
    status: str = Field(description="running, or what came out.", examples=["applied"])
    ended_at: Time | None = Field(description="When it ended.")
    outcome: OutcomeShown | None


class RunListed(Answer):
    """An execution."""

    uuid: Uuid = Field(description="Its own.")
    plan_uuid: Uuid | None = Field(description="What it carries out.")
    status: str = Field(
        description="running, applied, failed or interrupted; pending or cancelled, of one that was asked for.",
        examples=["applied"],
    )
    message: str = Field(description="Why one that was asked for waits, or failed.", examples=[""])
    request_id: str | None = Field(
        description="In which request it was asked for; its events and log lines have it too.",
        examples=["req-6a1f0d3e-8c1b-4a57-9d53-0f7c2b9e1a44"],
    )
    started_at: Time
    ended_at: Time | None = Field(description="When it ended.")
    cancel_requested_at: Time | None = Field(description="Since when somebody wants it to end.")
    cancel_requested_by: str | None = Field(description="Who wants it to end.", examples=[None])
    outcomes: dict[str, int] = Field(description="How many hosts came out how.", examples=[{"applied": 3}])
    links: list[Link]


class Run(RunListed):
    """An execution, with what came out for each host."""

    outcomes: dict[str, int] = Field({}, description="Only in lists.", examples=[{}])
    hosts: list[RunHost]


class RunList(Answer):
    """A page of runs, the newest first."""

    runs: list[RunListed]
    links: list[Link]


class EventShown(Answer):
    """An entry of the audit trail."""

    number: int = Field(description="Rises with each; what a stream resumes by.", examples=[4711])
    at: Time
    kind: str = Field(description="What happened.", examples=["PolicyCreated"])
    host: str | None = Field(description="The host that it is about.", examples=["compute-1"])
    run: Uuid | None = Field(description="The run that it is of.")
    message: str = Field(description="The same for people.", examples=["admin: qat-sriov"])
    by: str | None = Field(description="Who did it.", examples=["admin"])
    before: Any = Field(description="How it was, where that can be said.", examples=[None])
    after: Any = Field(description="How it is, where that can be said.", examples=[None])
    data: dict[str, Any] = Field(description="What else belongs to it.", examples=[{"policy": "qat-sriov"}])


class EventList(Answer):
    """A page of events, the newest first."""

    events: list[EventShown]
    links: list[Link]

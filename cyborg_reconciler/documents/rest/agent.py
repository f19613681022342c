# SPDX-License-Identifier: Apache-2.0
"""What travels between agents and the conductor. Check-ins are many, so they are decoded with msgspec. Pure."""

from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import Field

from cyborg_reconciler.documents.rest.base import UUID_FORM, Answer, HostName, Request, Title, Uuid
from cyborg_reconciler.errors import FieldError, RequestInvalidError
from cyborg_reconciler.limits import COMMANDS_DONE, DRIVER_DEVICES

#: A MAC as the kernel writes it, and longer ones (InfiniBand).
Mac = Annotated[str, Field(pattern=r"^([0-9a-f]{2}:){5,19}[0-9a-f]{2}$", examples=["52:54:00:12:34:56"])]

#: A check-in's words: one line, as the database has room for. (`$` would let a line's end pass.)
Word = Annotated[str, msgspec.Meta(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
#: How a device is doing.
HealthTold = Literal["Healthy", "Degraded", "Missing", "Unknown"]
#: Of vendors and products, as the database has room for.
Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{4}\Z")]
#: What the database's integers hold.
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class InventoryGiven(Request):
    """By what the host can be known."""

    hostname: HostName = Field(description="What it calls itself.")
    system_uuid: Annotated[str, Field(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = Field(
        None, description="SMBIOS' uuid of the machine.", examples=["4c4c4544-0042-3510-8052-b4c04f564433"]
    )
    macs: Annotated[tuple[Mac, ...], Field(max_length=1024)] = Field(
        (), description="The addresses of its NICs.", examples=[("52:54:00:12:34:56",)]
    )


class LookupGiven(Request):
    """Which host am I?"""

    agent_version: Title = Field(description="The agent's release.", examples=["0.1.0"])
    inventory: InventoryGiven = Field(
        description="By what the host can be known.", examples=[{"hostname": "compute-7"}]
    )


class HelloGiven(Request):
    """The agent is there, and ready."""

    status: Literal["READY"] = Field(description="That it is ready.", examples=["READY"])
    endpoint: Annotated[str, Field(pattern=r"^[^\s/\x00-\x1f\x7f]{1,255}:[0-9]{1,5}$")] = Field(
        description="Where it serves its own API. Only noted: the conductor calls none but configured addresses.",
        examples=["compute-7:1337"],
    )


class AgentHost(Answer):
    """The host that the agent is on."""

    host: str = Field(description="Its name.", examples=["compute-7"])
    uuid: Uuid = Field(description="Its uuid, of which those of its devices are made.")
    heartbeat_interval: int = Field(description="Seconds between two check-ins.", examples=[60])
    token: str | None = Field(None, description="What speaks for this host from now on; told once.")


class CommandTold(Answer):
    """What the agent is to do."""

    id: int = Field(description="Its number.", examples=[1])
    command: Literal["discover", "send_facts", "rotate_token"] = Field(
        description="What to do. `send_facts` is reserved: agents obey it, and nothing asks for it yet.",
        examples=["discover"],
    )
    driver: str | None = Field(None, description="Only this driver.", examples=["pci"])
    token: str | None = Field(None, description="The token to use from now on, of rotate_token.")


class DesiredDeviceTold(Answer):
    """A device that is to be ready; others that its driver had set up, it lets go of."""

    driver: str = Field(description="Which driver's.", examples=["dummy"])
    address: str = Field(description="What its driver calls it.", examples=["dummy:0"])
    uuid: Uuid = Field(description="Its uuid.")


class CheckedIn(Answer):
    """What the conductor says to a check-in."""

    heartbeat_interval: int = Field(description="Seconds until the next one.", examples=[60])
    generation: int = Field(description="Of what is desired of the host.", examples=[3])
    durable: bool = Field(description="Whether it is on disk: facts are, that nothing changed is not yet.")
    commands: list[CommandTold] = Field(
        description="What the agent is to do, until it says that it is done.", examples=[[]]
    )
    modules: list[str] | None = Field(
        None,
        description="Kernel modules that facts are to tell of, besides those of devices; null: as before.",
        examples=[["vfio_pci"]],
    )
    ready: list[DesiredDeviceTold] | None = Field(
        None, description="Which of the devices that its drivers found are to be ready; null where nothing is said."
    )


class DriverTold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A driver that the agent has."""

    name: Annotated[Word, msgspec.Meta(description="Its name.")]
    type: Annotated[Word, msgspec.Meta(description="For which type of device it is.")] = ""
    status: Annotated[Word, msgspec.Meta(description="What it last said of itself: READY.")] = ""
    endpoint: Annotated[Word, msgspec.Meta(description="Where it serves, on the agent's own host.")] = ""


class StatusTold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a device is doing."""

    address: Annotated[Word, msgspec.Meta(description="Which device.")]
    health: Annotated[HealthTold, msgspec.Meta(description="How it is doing.")]
    driver: Annotated[Word | None, msgspec.Meta(description="The driver that says so.")] = None


class UsageTold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a device is used; broadcast, and kept nowhere."""

    address: Annotated[Word, msgspec.Meta(description="Which device.")]
    metrics: Annotated[
        dict[Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")], float],
        msgspec.Meta(description="What its driver can read, by name."),
    ]


class SpecsTold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device is."""

    device_type: Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z0-9_]{0,31}\Z", description="Its type.")]
    remote: Annotated[int, msgspec.Meta(ge=0, le=1, description="Whether it is reached over a network.")] = 0
    num: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1, description="How many there are.")] = 1
    acc_type: Annotated[
        str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]{0,64}\Z", description="Which kind of function it is.")
    ] = ""
    vendor_id: Annotated[Id | None, msgspec.Meta(description="Its vendor.")] = None
    product_id: Annotated[Id | None, msgspec.Meta(description="Its product.")] = None
    acc_capability: Annotated[dict[str, Any], msgspec.Meta(description="What it can do, as a free tree.")] = {}


class SetupTold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a device stands, by its driver."""

    setup_required: Annotated[bool, msgspec.Meta(description="It is not set up.")] = False
    reboot_required: Annotated[bool, msgspec.Meta(description="It is set up after the next boot.")] = False
    health: Annotated[HealthTold, msgspec.Meta(description="How it is doing.")] = "Healthy"


class DeviceTold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device that a driver found, and that no facts tell of."""

    uuid: Annotated[str, msgspec.Meta(pattern=rf"^{UUID_FORM}\Z", description="Its uuid; nobody else's.")]
    address: Annotated[
        str, msgspec.Meta(pattern=r"^[^\s\x00-\x1f\x7f]{1,64}\Z", description="What its driver calls it.")
    ]
    acc_specs: Annotated[SpecsTold, msgspec.Meta(description="What it is.")]
    acc_status: Annotated[SetupTold, msgspec.Meta(description="Where it stands.")]


class HardwareTold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a driver found that no facts tell of."""

    driver: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\Z", description="Which driver.")]
    devices: Annotated[list[DeviceTold], msgspec.Meta(max_length=DRIVER_DEVICES, description="Its devices.")]
    whole: Annotated[bool, msgspec.Meta(description="Whether these are all; of others nothing is said.")] = True


class CheckInGiven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the host is: its facts where they changed, and their fingerprint."""

    agent_version: Annotated[Word, msgspec.Meta(description="The agent's release.")]
    boot_id: Annotated[Word, msgspec.Meta(description="The kernel's own, new with each boot.")]
    epoch: Annotated[Number, msgspec.Meta(description="Rises with each start of the agent.")]
    sequence: Annotated[Number, msgspec.Meta(description="Rises with each check-in of an epoch, from 1.")]
    fingerprint: Annotated[Word, msgspec.Meta(description="Of the facts, also where they are left out.")]
    sent_at: Annotated[Word, msgspec.Meta(description="By the agent's clock, RFC 3339; for people alone.")] = ""
    facts: Annotated[
        msgspec.Raw, msgspec.Meta(description="What the host reports; left out while its fingerprint is the same.")
    ] = msgspec.field(default_factory=msgspec.Raw)
    drivers: Annotated[
        list[DriverTold], msgspec.Meta(max_length=256, description="The drivers that the agent has.")
    ] = []
    status: Annotated[list[StatusTold], msgspec.Meta(description="How devices are doing.")] = []
    usage: Annotated[list[UsageTold], msgspec.Meta(description="How much devices are used.")] = []
    unread: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=4096)]],
        msgspec.Meta(description="What could not be read, or written; kept nowhere."),
    ] = []
    hardware: Annotated[
        Annotated[list[HardwareTold], msgspec.Meta(max_length=256)] | None,
        msgspec.Meta(description="What drivers found that no facts tell of; left out where nothing is said of it."),
    ] = None
    done: Annotated[
        Annotated[list[Number], msgspec.Meta(max_length=COMMANDS_DONE)] | None,
        msgspec.Meta(description="The commands that were carried out; who leaves it out is told each command once."),
    ] = None


_decoder: Final = msgspec.json.Decoder(CheckInGiven)


class CheckInBody:
    """A check-in as a body of the API."""

    def validate_json(self, data: bytes) -> CheckInGiven:
        """Return the check-in that *data* is.

        Raises:
            RequestInvalidError: it is none; says where.
        """
        try:
            return _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            message, _, path = str(exc).partition(" - at `")
            raise RequestInvalidError("the check-in", [FieldError(path.rstrip("`") or "$", message)]) from exc

    def json_schema(self, *, ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
        """Return the JSON Schema of a check-in, with patterns as JSON Schema has them: there, `$` is the very end."""
        schema = msgspec.json.schema(CheckInGiven, ref_template=ref_template.replace("{model}", "{name}"))
        described: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema).replace(rb"\\Z", b"$"))
        return described

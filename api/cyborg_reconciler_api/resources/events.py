# SPDX-License-Identifier: Apache-2.0
"""The operations on the audit trail: as a list, and as a stream of what happens."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler.documents.rest.base import HostName, Uuid
from cyborg_reconciler.documents.rest.fleet import EventList
from cyborg_reconciler.errors import NotFoundError
from cyborg_reconciler.stores.pages import PageQuery
from cyborg_reconciler_api.listing import ListQuery, listed
from cyborg_reconciler_api.operation import EVENT_STREAM, Call, Reply, Sample, operation
from cyborg_reconciler_api.services import Services

EVENT: Final = {
    "number": 4711,
    "at": "2026-01-05T12:00:00Z",
    "kind": "PolicyCreated",
    "host": None,
    "run": None,
    "message": "admin: qat-sriov",
    "by": "admin",
    "before": None,
    "after": {"kind": "AcceleratorPolicy", "metadata": {"name": "qat-sriov"}},
    "data": {"policy": "qat-sriov"},
}
SAMPLE: Final = {"events": [EVENT], "links": [{"rel": "self", "href": "/v1/events"}]}
BAD: Final = "a parameter is unknown, or has no such value; or Last-Event-ID is no number"
BUSY: Final = "there are as many streams as the server can have: come again after Retry-After"


def _is_text(value: object) -> object:
    """Return *value* if it is a time in words: a bare number is none, though pydantic reads seconds from it."""
    if isinstance(value, str) and "T" not in value.upper():
        raise ValueError("is no time such as 2026-01-05T12:00:00Z")
    return value


def _in_utc(at: datetime) -> datetime:
    """Return the time in UTC, if it is one there: at the ends of all that can be told, another zone has others."""
    try:
        return at.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("is out of range, in UTC") from exc


class RunEventQuery(ListQuery):
    """Which events of a run a list has, and how."""

    host: HostName | None = Field(None, description="The host that they are about.")
    kind: Annotated[str, Field(pattern=r"^[A-Za-z]{1,64}$")] | None = Field(
        None, description="What happened.", examples=["PolicyCreated"]
    )
    since: Annotated[AwareDatetime, BeforeValidator(_is_text), AfterValidator(_in_utc)] | None = Field(
        None, description="From when on, with a zone.", examples=["2026-01-05T12:00:00Z"]
    )
    marker: Annotated[str, Field(pattern=r"^[0-9]{1,18}$")] | None = Field(
        None, description="The number of the last one that is known already.", examples=["4711"]
    )
    sort: Annotated[str, Field(pattern=r"^number(:(asc|desc))?$")] = Field(
        "number:desc", description="In which order: number:desc or number:asc.", examples=["number:desc"]
    )


class EventQuery(RunEventQuery):
    """Which events a list has, and how."""

    OTHERS: ClassVar[frozenset[str]] = ListQuery.OTHERS | {"usage"}

    run: Uuid | None = Field(None, description="The run that they are of.")
    usage: bool = Field(
        default=False, description="In a stream, tell between the events how much devices are used.", examples=[True]
    )


@operation(
    "List events, or follow them",
    access=Role.READER,
    query=EventQuery,
    answer=EventList,
    is_stream=True,
    errors={400: BAD, 503: BUSY},
    sample=Sample(answer=SAMPLE),
)
def list_(services: Services, call: Call) -> Reply:
    """List the audit trail, the newest first: who did what and when, how it was before and is after.

    With `Accept: text/event-stream` events come as they happen, each with its number as id, filtered alike. A stream
    ends after half a minute; a client goes on where it was with `Last-Event-ID`, as browsers do by themselves.

    What is older than the setting `events_keep_days` is forgotten, as an event `EventsForgotten` tells. Who goes on in
    a stream from before that gets an event of the type `forgotten` first, `{"up_to": NUMBER}`: he has missed some.

    With `usage=true` it also has events of the type `usage`, without an id, since they are kept nowhere: of each host
    what its agent told last, `{"host", "at", "usage": [{"address", "metrics"}]}`, at first and whenever it tells anew.
    Of the filters `host` holds for them. A server whose agents check in elsewhere has none to tell.
    """
    if call.stream_after is not None:
        return _stream(services, call.query.wanted(), call.stream_after, tells_usage=call.query.usage)
    return listed(call, "events", services.events.page(call.query.wanted()))


@operation(
    "List the events of a run, or follow them",
    access=Role.READER,
    query=RunEventQuery,
    answer=EventList,
    is_stream=True,
    errors={400: BAD, 404: "there is no such run", 503: BUSY},
    sample=Sample(answer=SAMPLE),
)
def of_run(services: Services, call: Call) -> Reply:
    """List what happened in a run, the newest first; with `Accept: text/event-stream`, from its beginning and on."""
    run = call.ids["uuid"]
    if services.run_store.document(run) is None:
        raise NotFoundError(wanted=f"run {run}", found="there is none")
    wanted = call.query.wanted()
    wanted = replace(wanted, equal={**wanted.equal, "run": run})
    if call.stream_after is not None:
        return _stream(services, wanted, max(call.stream_after, 0))
    return listed(call, "events", services.events.page(wanted))


def _stream(services: Services, wanted: PageQuery, after: int, *, tells_usage: bool = False) -> Reply:
    stream = services.streams.open(replace(wanted, descending=False), after, tells_usage=tells_usage)
    return Reply(stream=stream, content_type=EVENT_STREAM, headers={"Cache-Control": "no-store"})

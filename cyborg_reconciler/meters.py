# SPDX-License-Identifier: Apache-2.0
"""What is counted of an installation? Every metric, and the port through which those who do the work count it.

Numbers of what was done are counted where it is done (`COUNTED`, through `Meter`). Numbers of what there is are read
from the database when somebody asks (`TALLIED`): they are then the same whichever server answers. What the worker has
done is among those: it has no server of its own, and enters its passes where its work is. What agents measure is kept
nowhere, and told as it was heard last (`HEARD`). Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

#: In the environment: the folder that the processes of a server share, in which they count together. Source:
#: prometheus-client, whose name it is; it must be set before that is imported.
SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One family of numbers, as Prometheus has them. There is one of each, and it equals no other.

    Attributes:
        name: with its unit; ``_total`` at the end of what only rises. labels: few values each, never what callers send.
        buckets: upper bounds, of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


REQUEST_SECONDS: Final = Metric(
    "cyborg_reconciler_api_request_duration_seconds",
    "histogram",
    "How long requests to the API took, by the path's template.",
    ("route", "method", "status"),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
REQUESTS_IN_FLIGHT: Final = Metric(
    "cyborg_reconciler_api_requests_in_flight", "gauge", "Requests that are being worked on."
)
CHECK_INS: Final = Metric(
    "cyborg_reconciler_check_ins_total",
    "counter",
    "Check-ins that were taken in: with something new (changed), without (unchanged; counted at the save-out interval),"
    " older than another (stale).",
    ("result",),
)
WRITTEN_TOGETHER: Final = Metric(
    "cyborg_reconciler_check_ins_written_together",
    "histogram",
    "Check-ins that one transaction carried.",
    buckets=(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
)

HOSTS: Final = Metric(
    "cyborg_reconciler_hosts",
    "gauge",
    "Hosts by where they stand; drifted are those that were as declared under the same generation, and are not now.",
    ("phase", "sync", "health", "drifted"),
)
AGENTS_SILENT: Final = Metric(
    "cyborg_reconciler_agents_silent", "gauge", "Hosts whose agent has reported once, and has fallen silent."
)
ACCELERATORS: Final = Metric(
    "cyborg_reconciler_accelerators", "gauge", "Accelerators by observed state and health.", ("state", "health")
)
RUNS: Final = Metric("cyborg_reconciler_runs", "gauge", "Runs that are kept, by their status.", ("status",))
QUEUE_LENGTH: Final = Metric("cyborg_reconciler_queue_length", "gauge", "Hosts that wait to be looked at.")
QUEUE_AGE: Final = Metric(
    "cyborg_reconciler_queue_age_seconds",
    "gauge",
    "For how long the host that has waited longest has waited to be looked at, of those that are due.",
)
PASSES: Final = Metric(
    "cyborg_reconciler_passes_total",
    "counter",
    "Passes of the worker: over all hosts (all), or over those of the queue (queue); ok or failed.",
    ("kind", "result"),
)
PASS_SECONDS: Final = Metric(
    "cyborg_reconciler_pass_seconds_total", "counter", "How long they took, together.", ("kind", "result")
)
LAST_PASS: Final = Metric(
    "cyborg_reconciler_last_pass_timestamp_seconds", "gauge", "When the last one ended.", ("kind", "result")
)
LEASE_HELD: Final = Metric(
    "cyborg_reconciler_lease_held",
    "gauge",
    "Whether somebody holds the lease for what one process alone may do, and it has not run out: 1 or 0.",
    ("name",),
)
DATABASE_UP: Final = Metric(
    "cyborg_reconciler_database_up", "gauge", "Whether the database answered when it was asked for the numbers: 1 or 0."
)

DEVICE_USAGE: Final = Metric(
    "cyborg_reconciler_device_usage",
    "gauge",
    "What drivers measure of devices, as their host's agent told it last; the unit is in the metric's name.",
    ("host", "address", "metric"),
)

COUNTED: Final = (REQUEST_SECONDS, REQUESTS_IN_FLIGHT, CHECK_INS, WRITTEN_TOGETHER)
TALLIED: Final = (
    *(HOSTS, AGENTS_SILENT, ACCELERATORS, RUNS, QUEUE_LENGTH, QUEUE_AGE, PASSES, PASS_SECONDS, LAST_PASS, LEASE_HELD),
    DATABASE_UP,
)
HEARD: Final = (DEVICE_USAGE,)

#: How many there are of each combination of a metric's labels, in their order.
Tally = Mapping[tuple[str, ...], float]


class Meter(Protocol):
    """What is counted. Never raises: a number that is lost is no reason to refuse what was asked for."""

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Count *amount* more of a counter; change a gauge by it."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Enter *value* into a histogram."""


class NoMeter:
    """Counts nothing, in a process whose numbers nobody reads."""

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Do nothing."""

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Do nothing."""


class Tallies(Protocol):
    """What there is, by the database; and whether it answers."""

    def check(self) -> None:
        """Return when the database answers, and is of this release.

        Raises:
            JournalError: it does not, or is not.
        """

    def tallies(self) -> Mapping[Metric, Tally]:
        """Return the numbers of what there is, each by one grouped query.

        Raises:
            JournalError: the database cannot be used.
        """

# SPDX-License-Identifier: Apache-2.0
"""The numbers of this server, for Prometheus: counted in each process, and added up when somebody asks.

Opened by `bootstrap`; fills the port `Meter`. Under gunicorn the processes count in files of one folder, which the
environment names (`SHARED_FOLDER`); otherwise in memory. Reads and writes those files.
"""

import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, metrics_core, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.meters import COUNTED, DATABASE_UP, SHARED_FOLDER, Metric, Tallies, Tally

#: For how long what was read from the database is told again: several may ask, and often.
KEPT_S: Final = 5.0


Family = CounterMetricFamily | GaugeMetricFamily

#: What the library calls a metric whose numbers it did not count itself, by the metric's kind.
FAMILIES: Final[Mapping[str, type[Family]]] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class PrometheusMeter:
    """Counts, and tells all that was counted together with what there is by *tallies*, and what was *heard*."""

    def __init__(
        self,
        tallies: Tallies,
        kept_s: float = KEPT_S,
        heard: Mapping[Metric, Callable[[], Tally]] = MappingProxyType({}),
    ) -> None:
        shared = os.environ.get(SHARED_FOLDER)
        if shared:
            values.ValueClass = _counting_in(os.getpid())
        self._registry = CollectorRegistry()
        registry = None if shared else self._registry
        self._counters = {one: _counter(one, registry) for one in COUNTED if one.kind == "counter"}
        self._gauges = {one: _gauge(one, registry) for one in COUNTED if one.kind == "gauge"}
        self._histograms = {one: _histogram(one, registry) for one in COUNTED if one.kind == "histogram"}
        #: Those of one combination of labels: the library takes long to find them.
        self._added: dict[tuple[object, ...], Counter | Gauge] = {}
        self._observed: dict[tuple[object, ...], Histogram] = {}
        if shared:
            self._registry.register(_Shared(Path(shared)))
        self._registry.register(_Tallied(tallies, kept_s))
        self._registry.register(_Heard(heard))

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Count *amount* more."""
        key = (metric, *labels.values())
        child = self._added.get(key)
        if child is None:
            family = self._gauges[metric] if metric.kind == "gauge" else self._counters[metric]
            child = self._added[key] = family.labels(**labels) if labels else family
        child.inc(amount)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Enter *value*."""
        key = (metric, *labels.values())
        child = self._observed.get(key)
        if child is None:
            family = self._histograms[metric]
            child = self._observed[key] = family.labels(**labels) if labels else family
        child.observe(value)

    def exposition(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)


@functools.cache
def _counting_in(process: int) -> type:
    """Return what counts in the files of this *process*, which never forks; the library asks who it is each time."""
    made: type = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]  # the library's own
    return made


def _counter(metric: Metric, registry: CollectorRegistry | None) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def _gauge(metric: Metric, registry: CollectorRegistry | None) -> Gauge:
    return Gauge(metric.name, metric.help, metric.labels, registry=registry, multiprocess_mode="livesum")


def _histogram(metric: Metric, registry: CollectorRegistry | None) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


class _Shared(Collector):
    """What the processes counted in the files of *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[metrics_core.Metric]:
        """Return a family for each metric. A file is empty while its process makes it: the library fails at one."""
        files = [str(file) for file in self._folder.glob("*.db") if _has_something(file)]
        merge: Callable[[list[str]], Iterable[metrics_core.Metric]] = MultiProcessCollector.merge
        return merge(files)


def _has_something(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # of a process that has ended
        return False


class _Heard(Collector):
    """What was heard last, told anew each time."""

    def __init__(self, heard: Mapping[Metric, Callable[[], Tally]]) -> None:
        self._heard = heard

    def collect(self) -> Iterator[Family]:
        """Yield a family for each metric."""
        yield from (_family(metric, tally()) for metric, tally in self._heard.items())


def _family(metric: Metric, tally: Tally) -> Family:
    family = FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)
    for labels, value in tally.items():
        family.add_metric(labels, value)
    return family


class _Tallied(Collector):
    """What there is, read when somebody asks, and kept for some seconds."""

    def __init__(self, tallies: Tallies, kept_s: float) -> None:
        self._tallies, self._kept_s = tallies, kept_s
        self._lock = threading.Lock()
        self._read_at_s = -kept_s
        self._found: Mapping[Metric, Tally] = {}

    def describe(self) -> list[Family]:
        """Return nothing: the registry is not to ask the database when this is put into it."""
        return []

    def collect(self) -> Iterator[Family]:
        """Yield a family for each metric."""
        with self._lock:
            if time.monotonic() - self._read_at_s >= self._kept_s:
                self._found = self._read()
                self._read_at_s = time.monotonic()
            found = self._found
        yield from (_family(metric, tally) for metric, tally in found.items())

    def _read(self) -> Mapping[Metric, Tally]:
        """Return what there is; where the database does not answer, that alone."""
        try:
            return {**self._tallies.tallies(), DATABASE_UP: {(): 1}}
        except JournalError:
            return {DATABASE_UP: {(): 0}}

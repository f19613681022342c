# SPDX-License-Identifier: Apache-2.0
"""The numbers of this server, for Prometheus: counted in each process, and added up when somebody asks.

Opened by `bootstrap`; fills the port `Meter`. Under gunicorn the processes count in files of one folder, which the
environment names (`FOLDER`); otherwise in memory. Reads and writes those files.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from cyborg_reconciler.errors import JournalError
from cyborg_reconciler.meters import COUNTED, DATABASE_UP, Metric, Tallies, Tally

#: Names the folder that processes share. It must be set before this module is imported. Source: prometheus-client.
FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"

#: For how long what was read from the database is told again: several may ask, and often.
KEPT_S: Final = 5.0


class PrometheusMeter:
    """Counts, and tells all that was counted together with what there is by *tallies*."""

    def __init__(self, tallies: Tallies, kept_s: float = KEPT_S) -> None:
        shared = os.environ.get(FOLDER)
        self._registry = CollectorRegistry()
        self._families = {metric: _family(metric, None if shared else self._registry) for metric in COUNTED}
        if shared:
            MultiProcessCollector(self._registry, shared)  # type: ignore[no-untyped-call]  # the library's own
        self._registry.register(_Tallied(tallies, kept_s))

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Count *amount* more."""
        family = self._families[metric]
        child = family.labels(**labels) if labels else family
        if isinstance(child, Counter | Gauge):
            child.inc(amount)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Enter *value*."""
        family = self._families[metric]
        child = family.labels(**labels) if labels else family
        if isinstance(child, Histogram):
            child.observe(value)

    def exposition(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)


def _family(metric: Metric, registry: CollectorRegistry | None) -> Counter | Gauge | Histogram:
    match metric.kind:
        case "counter":
            return Counter(metric.name, metric.help, metric.labels, registry=registry)
        case "gauge":
            return Gauge(metric.name, metric.help, metric.labels, registry=registry, multiprocess_mode="livesum")
        case "histogram":
            return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


class _Tallied(Collector):
    """What there is, read when somebody asks, and kept for some seconds."""

    def __init__(self, tallies: Tallies, kept_s: float) -> None:
        self._tallies, self._kept_s = tallies, kept_s
        self._lock = threading.Lock()
        self._read_at_s = -kept_s
        self._found: Mapping[Metric, Tally] = {}

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: the registry is not to ask the database when this is put into it."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield a family for each metric."""
        with self._lock:
            if time.monotonic() - self._read_at_s >= self._kept_s:
                self._found = self._read()
                self._read_at_s = time.monotonic()
            found = self._found
        for metric, tally in found.items():
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in tally.items():
                family.add_metric(labels, value)
            yield family

    def _read(self) -> Mapping[Metric, Tally]:
        """Return what there is; where the database does not answer, that alone."""
        try:
            return {**self._tallies.tallies(), DATABASE_UP: {(): 1}}
        except JournalError:
            return {DATABASE_UP: {(): 0}}

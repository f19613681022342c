# SPDX-License-Identifier: Apache-2.0
"""What is true here now? Reads the host when something tells of a change, and at the latest after an interval.

Runs in a thread of its own, so that a conductor that does not answer keeps nobody from looking. `events`, the internal
API, commands and signals wake it; `reporter` and `server` take the last observation from it. Does I/O through `Host`.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Final

from cyborg_reconciler.agent.drivers.base import Device
from cyborg_reconciler.agent.drivers.registry import Registry
from cyborg_reconciler.agent.drivers.remote import DriverSilentError, RemoteDriver, told
from cyborg_reconciler.agent.readers import Facts, Host, unread_in
from cyborg_reconciler.agent.schedule import Debounce
from cyborg_reconciler.agent.settings import AgentSettings
from cyborg_reconciler.agent.wanted import DesiredDevice, described
from cyborg_reconciler.errors import HostUnreadableError

LOG: Final = logging.getLogger(__name__)

#: Messages to the observer's thread.
EVENT: Final = "event"
LOOK: Final = "look"
STOP: Final = "stop"

#: What is asked for when every driver is to discover.
ALL: Final = "*"
#: For which a driver that did not answer is not asked what it has.
SILENT_REST_S: Final = 60.0
#: After an observation that failed.
RETRY_S: Final = 10.0
#: So many intervals between two polls without a turn, and at least so long, and the thread hangs.
HUNG_POLLS: Final = 12
HUNG_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Observation:
    """The host as it was seen at one moment.

    Attributes:
        devices: by driver in this process.
        unread: why parts of it are not known.
        remote: by registered driver that was heard, as a check-in says them.
    """

    facts: Facts
    devices: dict[str, tuple[Device, ...]] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    remote: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Return the digest of what is stable in the facts."""
        return str(self.facts["fingerprint"])

    @property
    def boot_id(self) -> str:
        """Return which boot of the host this is; empty where that could not be read."""
        boot_id = self.facts["kernel"]["boot_id"]
        return boot_id if isinstance(boot_id, str) else ""

    def is_alike(self, other: "Observation") -> bool:
        """Return whether *other* says the same of what is stable."""
        return (self.fingerprint, self.devices, self.remote) == (other.fingerprint, other.devices, other.remote)

    def inventory(self) -> dict[str, Any]:
        """Return by what the conductor may know this host: its name, its system's uuid, the MACs of its own ports."""
        functions = self.facts["devices"]
        macs = {mac for each in functions if not each.get("physfn") for mac in each.get("macs", ()) if len(mac) > 1}
        uuid = self.facts["system_uuid"]
        return {"hostname": self.hostname, "system_uuid": uuid if isinstance(uuid, str) else None, "macs": sorted(macs)}

    @property
    def hostname(self) -> str:
        """Return the host's own name; empty where it could not be read."""
        name = self.facts["hostname"]
        return name if isinstance(name, str) else ""


class Observer:
    """Looks at the host.

    Attributes:
        latest: the last observation, None before the first.
        failure: why the host could not be observed when it was looked at last.
        turned_at: when it last began or ended a turn, by the clock of `run`.
    """

    def __init__(self, host: Host, registry: Registry, settings: AgentSettings, on_news: Callable[[], None]) -> None:
        self.latest: Observation | None = None
        self.failure: str | None = None
        self.turned_at = 0.0
        self._host, self._registry, self._settings, self._on_news = host, registry, settings, on_news
        self._inbox: SimpleQueue[str] = SimpleQueue()
        self._is_noted = threading.Event()  # an event waits in it: more would say the same
        self._debounce = Debounce()
        self._lock = threading.Lock()
        self._asked: set[str] = {ALL}  # on its first run every driver's detection runs
        self._busy: set[str] = set()
        self._stamp = ""
        self._poll_at = self._read_at = 0.0

    # ----------------------------------------------------------------------------------------- called by other threads
    def note_event(self) -> None:
        """Take in that the kernel told of a change."""
        if not self._is_noted.is_set():
            self._is_noted.set()
            self._inbox.put(EVENT)

    def want(self, ready: tuple[DesiredDevice, ...] | None = None, modules: tuple[str, ...] | None = None) -> None:
        """Take in what the conductor wants of this host, where it says so; what is new has us look at once."""
        if self._registry.wanted.take(ready, modules):
            LOG.info("the conductor wants ready: %s", described(self._registry.wanted.ready or ()))
            self.wake()

    def wake(self) -> None:
        """Look at once. Safe in a handler of signals."""
        self._inbox.put(LOOK)

    def stop(self) -> None:
        """End the thread after what it is at. Safe in a handler of signals."""
        self._inbox.put(STOP)

    def ask(self, driver: str = ALL) -> bool:
        """Have *driver* discover, or every one; return False where that is under way already."""
        with self._lock:
            if {ALL, driver} & (self._asked | self._busy) or (driver == ALL and self._asked | self._busy):
                return False
            self._asked.add(driver)
        self.wake()
        return True

    @property
    def busy(self) -> frozenset[str]:
        """Return which drivers discover now, or are about to."""
        with self._lock:
            under_way = self._asked | self._busy
        return frozenset(self._registry.names()) if ALL in under_way else frozenset(under_way)

    def is_hung(self, now: float) -> bool:
        """Say whether it has been at one turn for too long: what it saw last need not be so any more."""
        return now - self.turned_at > max(HUNG_S, HUNG_POLLS * self._settings.poll_interval_s)

    # -------------------------------------------------------------------------------------------------- its own thread
    def run(self, clock: Callable[[], float]) -> None:
        """Look, wait, and so on, until `stop`."""
        while True:
            try:
                delay_s = self.step(clock())
            except Exception as exc:  # a reader's mistake must not end the watch
                LOG.exception("the host cannot be observed")
                self.failure, delay_s = repr(exc), RETRY_S
            self.turned_at = clock()
            try:
                message = self._inbox.get(timeout=delay_s)
            except Empty:
                continue
            if message == STOP:
                return
            self.take(message, clock())

    def take(self, message: str, now: float) -> None:
        """Take in one message: an event is waited on for more to come, anything else has us look at once."""
        if message == EVENT:
            self._is_noted.clear()
            self._debounce.note(now)
        else:
            self._read_at = now

    def step(self, now: float) -> float:
        """Look where it is time to; return how long nothing need be done."""
        self.turned_at = now
        is_polled = False
        if now >= self._poll_at:
            self._poll_at = now + self._settings.poll_interval_s
            stamp = self._host.read_stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                self._debounce.note(now)
            is_polled = True
        due = self._debounce.due
        if self._asked or now >= self._read_at or (due is not None and now >= due):
            self._debounce.clear()
            self._read_at = now + (self._settings.facts_interval_s if self._look() else RETRY_S)
            is_polled = True
        if is_polled:
            self._hear_drivers(now)
        waits = [self._poll_at, self._read_at, *([self._debounce.due] if self._debounce.due is not None else [])]
        return max(0.0, min(waits) - now)

    def _look(self) -> bool:
        """Observe the host, and have drivers discover that were asked to; return whether the host could be observed."""
        with self._lock:
            self._busy, self._asked = self._asked, set()
        try:
            is_seen = self._observe()
            for driver in self._registry.remote():
                if self._busy & {ALL, driver.registration.name}:
                    self._have_discover(driver)
        finally:
            with self._lock:
                self._busy = set()
        return is_seen

    def _observe(self) -> bool:
        """Read the host, and tell of it where it is news; return whether it could be read."""
        try:
            facts = self._host.read_facts(self._registry.wanted.modules or ())
        except HostUnreadableError as exc:
            LOG.error("the host cannot be observed: %s", exc)  # noqa: TRY400 - what is wrong is the host, not the program
            self.failure = str(exc)
            return False
        before, remote = self.latest, self.latest.remote if self.latest else {}
        self.latest = Observation(facts, self._registry.discover(facts), unread_in(facts), remote)
        was_blind, self.failure = self.failure, None
        if was_blind or before is None or not before.is_alike(self.latest):
            self._on_news()
        return True

    def _hear_drivers(self, now: float) -> None:
        """Ask registered drivers what they have, and tell of it where it is news; of the silent ones nothing is known.

        One that has not heard what is to be ready by now is told first. One that was silent is left alone for a while:
        it may have hung, and the host is not to wait for it at every turn.
        """
        if self.latest is None:
            return
        heard: dict[str, list[dict[str, Any]]] = {}
        for driver in self._registry.remote():
            if now < driver.rests_until:
                continue
            if not driver.has_taken(self._registry.wanted.uuids(driver.registration.name)):
                self._have_discover(driver)
            try:
                heard[driver.registration.name] = [told(item) for item in driver.hardware()]
            except DriverSilentError as exc:
                LOG.debug("%s", exc)
                driver.rests_until = now + SILENT_REST_S
        if heard != self.latest.remote:
            self.latest = replace(self.latest, remote=heard)
            self._on_news()

    def _have_discover(self, driver: RemoteDriver) -> None:
        try:
            driver.discover(self._registry.wanted.uuids(driver.registration.name))
        except DriverSilentError as exc:
            LOG.warning("%s", exc)

# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: puts its parts together, starts its threads, and ends when it is told to. Does I/O.

`cli.agent` calls `run`. SIGHUP has it look at the host at once and read its port's certificate anew; SIGTERM and SIGINT
end it.
"""

import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final

from cyborg_reconciler.agent import log, privileges
from cyborg_reconciler.agent.conductor import HttpConductor
from cyborg_reconciler.agent.drivers.base import Driver
from cyborg_reconciler.agent.drivers.dummy import DummyDriver
from cyborg_reconciler.agent.drivers.pci import PciDriver
from cyborg_reconciler.agent.drivers.registry import Registry
from cyborg_reconciler.agent.events import listen
from cyborg_reconciler.agent.internal import Gate, Resources, make_app
from cyborg_reconciler.agent.observer import Observer
from cyborg_reconciler.agent.readers import Host
from cyborg_reconciler.agent.reporter import Clocks, Means, Reporter
from cyborg_reconciler.agent.schedule import first_delay
from cyborg_reconciler.agent.server import Server
from cyborg_reconciler.agent.settings import AgentSettings
from cyborg_reconciler.agent.state import StateFolder

LOG: Final = logging.getLogger(__name__)

#: After a mistake of ours in the reporter.
MISTAKE_S: Final = 60.0
#: What the observer is at may take so long to end.
END_S: Final = 10.0

STOP: Final = "stop"
NEWS: Final = "news"
RENEW: Final = "renew"


def run(settings: AgentSettings, *, debug: bool = False) -> None:
    """Be the agent, until a signal ends it.

    Raises: SettingsInvalidError, AlreadyRunningError, HostUnreadableError.
    """
    log.set_up(settings.log_format, debug=debug)
    privileges.drop(settings.user)
    inbox: SimpleQueue[str] = SimpleQueue()
    folder = StateFolder(settings.state_dir)
    host = Host(settings.root)
    registry = Registry(_drivers(host, settings), folder, settings.driver_credential_file)
    observer = Observer(host, registry, settings, lambda: inbox.put(NEWS))
    server: Server | None = None

    def endpoint() -> str:
        name = observer.latest.hostname if observer.latest else ""
        return f"{name or 'localhost'}:{(server or settings).address[1]}"

    release = version("cyborg-reconciler")
    conductor = HttpConductor(settings, release)
    means = Means(conductor, observer, registry, folder, settings.enrolment_file, endpoint, release)
    reporter = Reporter(means, Clocks(time.time, random.random), first_at=_first_at(settings))
    resources = Resources(observer, registry, folder, lambda: reporter.identity.uuid if reporter.identity else None)
    gate = Gate(registry, settings.conductor_digest_file)
    server = Server(make_app(gate, resources), settings)
    gate.own_address, resources.own_port = server.address
    ended = threading.Event()
    if host.is_live:
        listen(observer.note_event, ended)
    watcher = threading.Thread(target=observer.run, args=(time.monotonic,), name="observer", daemon=True)
    with _signals(inbox, observer):
        server.start()
        watcher.start()
        LOG.info("agent %s answers on %s port %d", release, *server.address)
        _report(reporter, inbox, server.renew)
    ended.set()
    observer.stop()
    server.stop()
    watcher.join(timeout=END_S)
    folder.close()
    LOG.info("the agent ends")


def _drivers(host: Host, settings: AgentSettings) -> list[Driver]:
    """Return the drivers of this process."""
    drivers: list[Driver] = [PciDriver(host)]
    if settings.dummy_devices:
        drivers.append(DummyDriver(settings.dummy_devices))
    return drivers


def _first_at(settings: AgentSettings) -> float:
    """Return when to speak first: after a boot not at once, since all hosts of a rack may have booted together."""
    up_s, draw = time.clock_gettime(time.CLOCK_BOOTTIME), random.random()  # noqa: S311 - no secret hangs on it
    return time.monotonic() + first_delay(up_s, settings.spread_s, draw)


def _report(reporter: Reporter, inbox: SimpleQueue[str], renew: Callable[[], None]) -> None:
    """Report until told to stop; call *renew* when told to."""
    while True:
        try:
            delay_s = reporter.step(time.monotonic())
        except Exception:  # whatever it is, the host is reported of again
            LOG.exception("reporting failed")
            delay_s = MISTAKE_S
        messages = set(_messages(inbox, delay_s))
        if STOP in messages:
            return
        if RENEW in messages:
            renew()


def _messages(inbox: SimpleQueue[str], delay_s: float) -> Iterator[str]:
    """Yield what is in the inbox, waiting for a first message as long as *delay_s*."""
    try:
        yield inbox.get(timeout=delay_s) if delay_s > 0 else inbox.get_nowait()
        while True:
            yield inbox.get_nowait()
    except Empty:
        return


@contextmanager
def _signals(inbox: SimpleQueue[str], observer: Observer) -> Iterator[None]:
    """Turn signals into messages while the context lasts; a queue of this kind may be put to in a handler."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        inbox.put(STOP)

    def look(number: int, frame: FrameType | None) -> None:
        del number, frame
        observer.wake()
        inbox.put(RENEW)

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: look}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

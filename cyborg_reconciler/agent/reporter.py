# SPDX-License-Identifier: Apache-2.0
"""How does what was observed come to the conductor, whatever happens on the way?

Look-up, hello, then check-ins: the fingerprint alone while nothing changed, the facts when something did. Facts are
spooled before they are sent and taken out when the conductor has them, so that neither an outage nor a kill loses the
newest state. Runs in the main thread; all that it asks for is passed in, the clocks too. Does I/O through those.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from cyborg_reconciler.agent.conductor import (
    CONFLICT,
    INTERVAL_S,
    NOT_FOUND,
    STALE,
    UNAUTHORISED,
    Command,
    Conductor,
    Receipt,
)
from cyborg_reconciler.agent.drivers.registry import Registry
from cyborg_reconciler.agent.fitting import Hardware, within_length, within_limits
from cyborg_reconciler.agent.observer import ALL, Observation, Observer
from cyborg_reconciler.agent.readers import shown
from cyborg_reconciler.agent.schedule import Backoff, epoch_after_refusal, jittered
from cyborg_reconciler.agent.spool import Entry, Spool
from cyborg_reconciler.agent.state import Identity, StateFolder, read_identity, rotated, write_identity
from cyborg_reconciler.errors import ConductorError, SettingsInvalidError
from cyborg_reconciler.limits import COMMANDS_DONE
from cyborg_reconciler.secret_files import is_secret, read_secret

LOG: Final = logging.getLogger(__name__)
Said = TypeVar("Said")

#: Holds the numbers of the commands that were carried out, and that the conductor may not know of yet.
DONE: Final = "done.json"
#: While nothing has been observed yet, and nothing can be said.
NOTHING_SEEN_S: Final = 3600.0
#: While the observer hangs: that it goes on need not be news.
HUNG_AGAIN_S: Final = 5.0
#: What a conductor will take no more for being asked again.
NEVER_TAKEN: Final = frozenset((400, 413, 415, 422))


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where times and chance come from."""

    wall: Callable[[], float]
    draw: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Means:
    """What a reporter works with.

    Attributes:
        enrolment_file: holds the token of the first look-up, None where none is configured.
        endpoint: where the internal API listens, as the conductor is told.
    """

    conductor: Conductor
    observer: Observer
    registry: Registry
    folder: StateFolder
    enrolment_file: Path | None
    endpoint: Callable[[], str]
    version: str


class Reporter:
    """Reports to the conductor. `step` does what is due, and says when it wants to be called next."""

    def __init__(self, means: Means, clocks: Clocks, first_at: float = 0.0) -> None:
        self._means, self._clocks = means, clocks
        self._spool = Spool(means.folder)
        self.identity = read_identity(means.folder)
        self._epoch = means.folder.begin_epoch(clocks.wall())
        self._sequence = 0
        self._backoff = Backoff()
        self._due = first_at
        self._held = True  # before `_due` nothing is said, whatever the news
        self._is_greeted = False
        self._is_doubted = False  # whether the conductor knows this host by the token that we have
        self._is_mute = False  # whether the observer hung at the last step
        self._refused = 0  # times in a row that our epoch was too old
        self._accepted: str | None = None  # the fingerprint that the conductor has
        self._spooled: str | None = None  # the fingerprint of the newest entry in the spool
        self._interval_s = INTERVAL_S
        self._told: Hardware | None = None  # the devices of drivers that the conductor has
        self._done = _read_done(means.folder)

    # ------------------------------------------------------------------------------------------------------- the steps
    def step(self, now: float) -> float:
        """Say what is to be said by *now*; return how long nothing need be said unless there is news."""
        self._means.folder.flush()
        seen = self._means.observer.latest
        if seen is None or self._means.observer.failure:
            return NOTHING_SEEN_S  # what cannot be observed now is not said to be as it was
        if self._falls_mute(now):
            return HUNG_AGAIN_S  # nor is this: nobody looks
        if now < self._due and (self._held or self._is_known(seen)):
            self._keep(seen)
            return self._due - now
        try:
            self._report(seen)
        except ConductorError as exc:
            pause_s = self._backoff.pause(self._clocks.draw(), exc.retry_after_s)
            LOG.warning("%s; again in %.0f s", exc, pause_s)
            self._held, self._due = True, now + pause_s
            return pause_s
        self._backoff.clear()
        self._held, self._due = False, now + jittered(self._interval_s, self._clocks.draw())
        return 0.0 if not self._is_known(seen) else self._due - now

    def _falls_mute(self, now: float) -> bool:
        """Return whether nothing can be said, since the observer hangs."""
        was_mute, self._is_mute = self._is_mute, self._means.observer.is_hung(now)
        if self._is_mute and not was_mute:
            LOG.error("nothing is reported any more: a look at the host, or at a driver, does not end")
        elif was_mute and not self._is_mute:
            LOG.info("the host is looked at again, and reported")
        return self._is_mute

    def _is_known(self, seen: Observation) -> bool:
        hardware, _ = self._hardware(seen)
        return self._accepted == seen.fingerprint and not len(self._spool) and (self._told or []) == hardware

    def _report(self, seen: Observation) -> None:
        """Bring the conductor up to date. Raises: ConductorError."""
        self._keep(seen)  # first of all: nobody knows whether the conductor will hear the rest
        if self.identity is None:
            self._look_up(seen)
        elif self._is_doubted:
            self._look_up_again(seen)
        if not self._is_greeted:
            welcome = self._say(lambda me: self._means.conductor.hello(me.token, self._means.endpoint()))
            self._interval_s, self._is_greeted = welcome.interval_s, True
        if len(self._spool):
            self._deliver()
        else:
            self._check_in(seen)

    def _keep(self, seen: Observation) -> None:
        """Spool the facts of *seen*, unless the conductor or the spool has them."""
        if seen.fingerprint not in {self._accepted, self._spooled}:
            body = self._body(seen) | {"facts": seen.facts}
            body.pop("usage")  # of the moment: it means nothing later
            self._spool.add(Entry(self._epoch, self._sequence, body))
            self._spooled = seen.fingerprint

    def _body(self, seen: Observation) -> dict[str, Any]:
        """Return a new check-in, the next in the order, without the facts."""
        self._sequence += 1
        means = self._means
        watched = means.registry.watch(seen.devices)
        return {
            "agent_version": means.version,
            "boot_id": seen.boot_id,
            "epoch": self._epoch,
            "sequence": self._sequence,
            "sent_at": datetime.fromtimestamp(self._clocks.wall(), UTC).isoformat(timespec="seconds"),
            "fingerprint": seen.fingerprint,
            "drivers": means.registry.documents(means.endpoint(), means.observer.busy),
            "status": watched.status,
            "usage": watched.usage,
            "unread": [*seen.unread, *means.folder.troubles],
        }

    def _hardware(self, seen: Observation) -> tuple[Hardware, list[str]]:
        """Return the devices of drivers that no facts tell of, and why some are left out."""
        if self.identity is None:
            return [], []
        own = self._means.registry.hardware(seen.devices, UUID(self.identity.uuid))
        return within_limits(own + [{"driver": name, "devices": devices} for name, devices in seen.remote.items()])

    # -------------------------------------------------------------------------------------------------------- check-ins
    def _deliver(self) -> None:
        """Send what is in the spool, the oldest first. Raises: ConductorError."""
        while entry := self._spool.oldest():
            body = entry.body
            try:
                receipt = self._send(body)
            except ConductorError as exc:
                self._give_up(entry, exc)
                continue
            self._spool.done(entry)
            self._accepted = str(body["fingerprint"])
            self._take(receipt)

    def _send(self, body: dict[str, Any]) -> Receipt:
        said = body | {"done": self._done[:COMMANDS_DONE]}  # of more it hears later
        seen = self._means.observer.latest
        hardware, left_out = self._hardware(seen) if seen else ([], [])
        if hardware or self._told != hardware:  # most hosts have none that no facts tell of; that is said once
            said, too_long = within_length(said | {"hardware": hardware})
            left_out += too_long
        if left_out:
            LOG.warning("%s", "; ".join(left_out))
            said["unread"] = [*said["unread"], *left_out]
        receipt = self._say(lambda me: self._means.conductor.check_in(me.token, me.host, said))
        self._told = hardware
        return receipt

    def _give_up(self, entry: Entry, exc: ConductorError) -> None:
        """Take *entry* out of the spool if it will never be taken. Raises: *exc* where the attempts pause."""
        is_stale = exc.status == CONFLICT and exc.kind == STALE
        if is_stale or exc.status in NEVER_TAKEN:
            self._spool.done(entry)
        if is_stale and entry.epoch != self._epoch:
            LOG.info("the conductor knows of later than check-in %d of epoch %d", entry.sequence, entry.epoch)
            return
        if is_stale:
            self._raise_epoch()
        raise exc

    def _check_in(self, seen: Observation) -> None:
        """Send the fingerprint, and the facts where the conductor does not know it. Raises: ConductorError."""
        body = self._body(seen)
        try:
            receipt = self._send(body)
        except ConductorError as exc:
            if exc.status != CONFLICT:
                raise
            if exc.kind == STALE:
                self._raise_epoch()
                raise
            self._accepted = self._spooled = None
            self._keep(seen)
            self._deliver()
            return
        self._take(receipt)

    def _raise_epoch(self) -> None:
        """Go on in a higher epoch, with facts: the conductor knows of later check-ins of this host than ours."""
        self._refused += 1
        self._epoch = epoch_after_refusal(self._epoch, self._clocks.wall(), self._refused)
        self._sequence = 0
        self._accepted = self._spooled = self._told = None
        self._means.folder.keep_epoch(self._epoch)
        LOG.warning("the conductor knows later check-ins: this disk was rolled back, or a second agent has this name")

    # --------------------------------------------------------------------------------------------- who we are to whom
    def _look_up(self, seen: Observation) -> None:
        """Ask who this host is. Raises: ConductorError."""
        file = self._means.enrolment_file
        if self._means.folder.troubles:  # a token is given once, and would be lost with this process
            raise ConductorError(wanted="room for the token of this host", found="; ".join(self._means.folder.troubles))
        if file is None:
            raise ConductorError(wanted="an enrolment token", found="enrolment_file is not set")
        try:
            token = read_secret(file)
        except SettingsInvalidError as exc:
            raise ConductorError(wanted="an enrolment token", found=str(exc)) from exc
        found = self._means.conductor.look_up(token, seen.inventory())
        known = found.token or (self.identity.token if self.identity else None)
        if known is None:
            lost = f"{found.host} was given one that is not in {self._means.folder.path}; revoke it, and enrol it anew"
            raise ConductorError(wanted="the token of this host", found=lost)
        LOG.info("this host is %s (%s)", found.host, found.uuid)
        self._become(Identity(found.host, found.uuid, known))
        self._is_greeted = False

    def _look_up_again(self, seen: Observation) -> None:
        """Ask again who this host is; where that cannot be told, what was known counts."""
        self._is_doubted = False
        try:
            self._look_up(seen)
        except ConductorError as exc:
            LOG.warning("%s", exc)

    def _become(self, identity: Identity) -> None:
        self.identity = identity
        write_identity(self._means.folder, identity)

    def _say(self, words: Callable[[Identity], Said]) -> Said:
        """Return what *words* say, with the token that the conductor takes. Raises: ConductorError."""
        me = self.identity
        if me is None:
            raise ConductorError(wanted="this host's name", found="no look-up yet")
        try:
            said = words(me)
        except ConductorError as exc:
            if exc.status == UNAUTHORISED and me.previous:
                said = words(replace(me, token=me.previous))
                LOG.warning("the conductor does not take the new token, but the one before")
                self._become(replace(me, token=me.previous, previous=None))
                return said
            self._is_doubted = exc.status in {UNAUTHORISED, NOT_FOUND}
            raise
        if me.previous:
            self._become(replace(me, previous=None))  # only now can the old one go
        return said

    # --------------------------------------------------------------------------------------------------------- commands
    def _take(self, receipt: Receipt) -> None:
        """Take in the answer to a check-in, and do what it asks for."""
        self._refused = 0
        self._interval_s = receipt.interval_s
        self._means.observer.want(receipt.ready, receipt.modules)
        asked = {command.id for command in receipt.commands}
        done = [number for number in self._done if number in asked]  # the rest it has heard of
        for command in receipt.commands:
            if command.id not in done and self._obey(command):
                done.append(command.id)
        if done != self._done:
            self._done = done
            self._means.folder.write_json(DONE, {"done": done})

    def _obey(self, command: Command) -> bool:
        """Do what *command* asks for; return whether that is to be said. A new token is known of when it is used."""
        if command.name == "rotate_token" and command.token and self.identity and is_secret(command.token):
            renewed = rotated(self.identity, command.token)
            if write_identity(self._means.folder, renewed):  # else it is not used: the old one opens until it is
                self.identity = renewed
                LOG.info("there is a new token")
            return False
        if command.name == "discover" and command.driver in {None, *self._means.registry.names()}:
            self._means.observer.ask(command.driver or ALL)
        elif command.name == "send_facts":
            self._accepted = self._spooled = None
        else:
            LOG.warning("command %d (%s) is none that this agent knows", command.id, shown(command.name))
        return True


def _read_done(folder: StateFolder) -> list[int]:
    """Return the commands that were carried out, and that the conductor may ask for again."""
    found = (folder.read_json(DONE) or {}).get("done")
    return [number for number in found if isinstance(number, int)] if isinstance(found, list) else []

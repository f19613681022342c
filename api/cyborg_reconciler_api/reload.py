# SPDX-License-Identifier: Apache-2.0
"""What does gunicorn read anew when it is told to (SIGHUP)? Settings and certificates; those that work stay.

Called by `gunicorn_conf` in gunicorn's first process, whose workers inherit what it has read, and by `wsgi` in them.
Reads the configuration file and the certificates' files.
"""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from cyborg_reconciler.errors import ReconcilerError, SettingsInvalidError
from cyborg_reconciler.settings import Settings, read_settings


class Configuration(Protocol):
    """What of gunicorn's configuration matters here; the names are gunicorn's."""

    threads: int
    certfile: str | None
    keyfile: str | None
    ca_certs: str | None
    cert_reqs: int
    ciphers: str | None


@dataclass(slots=True)
class _Read:
    """What was read last, and could be used; where it serves, and since when; whether it stands in for another."""

    settings: Settings | None = None
    place: str = ""
    stands_in: bool = False
    started_at: datetime | None = None
    context: ssl.SSLContext | None = None


#: Of this process. Workers are forked from the first one, and see what it had read until then.
_read: Final = _Read()


def current_settings() -> Settings:
    """Return the settings that gunicorn's first process read; those of now, where another server runs the API.

    Raises:
        SettingsInvalidError.
    """
    return _read.settings or read_settings()


def note_place(sockets: Iterable[object], *, stands_in: bool) -> None:
    """Note where this process serves (gunicorn's *sockets* tell that as texts), and whether in another one's place."""
    _read.place, _read.stands_in = ", ".join(map(str, sockets)), stands_in


def stands_in() -> bool:
    """Return whether this process serves in the place of one that ended, or was told to."""
    return _read.stands_in


def place_and_start() -> tuple[str, datetime]:
    """Return where this process serves, which another server than gunicorn does not tell, and since when."""
    return _read.place or "elsewhere", _read.started_at or datetime.now(UTC)


def read(configuration: Configuration) -> None:
    """Read settings and certificates anew, and keep both if both can be used.

    Raises:
        ReconcilerError: one cannot; what was read before is still there.
    """
    settings = replace(read_settings(), threads=configuration.threads)  # whoever said so
    if configuration.certfile is None and (configuration.keyfile or configuration.ca_certs):
        raise SettingsInvalidError(wanted="a certificate", found="a key or a CA alone", remedy="set tls_cert as well")
    context = make_context(configuration) if configuration.certfile else None
    _read.settings, _read.context = settings, context


def context_of(configuration: Configuration) -> ssl.SSLContext:
    """Return how connections are encrypted."""
    return _read.context or make_context(configuration)


def make_context(configuration: Configuration) -> ssl.SSLContext:
    """Return how connections are encrypted: with TLS 1.2 or newer, and as gunicorn's *configuration* says.

    Raises:
        SettingsInvalidError: the files cannot be used.
    """
    files = [configuration.certfile, configuration.keyfile, configuration.ca_certs]
    wanted = f"the certificate in {', '.join(name for name in files if name)}"
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=configuration.ca_certs)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Nobody is there to be asked for a passphrase.
        context.load_cert_chain(configuration.certfile or "", configuration.keyfile, password=lambda: b"")
        context.verify_mode = ssl.VerifyMode(configuration.cert_reqs)
        if configuration.ciphers:
            context.set_ciphers(configuration.ciphers)
    except (OSError, ValueError) as exc:  # an SSLError is an OSError
        found = str(exc) or type(exc).__name__
        raise SettingsInvalidError(wanted=wanted, found=found, remedy="give PEM files that belong together") from exc
    return context


class Arbiter(Protocol):
    """What of gunicorn's first process is of use here."""

    cfg: Configuration
    log: Any


def read_first(server: Arbiter) -> None:
    """Read all at the start; gunicorn ends with one line where that cannot be."""
    _read.started_at = datetime.now(UTC)
    try:
        read(server.cfg)
    except ReconcilerError as exc:
        raise SystemExit(f"error: {exc}") from exc


def read_again(server: Arbiter) -> None:
    """Read all anew; what cannot be used is said, and what was read before serves on."""
    try:
        read(server.cfg)
    except ReconcilerError as exc:
        server.log.error("Not reloaded, all goes on as it was: %s", exc)  # noqa: TRY400 - the line says all of it
    else:
        server.log.info("Settings and certificates are read anew")

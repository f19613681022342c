# SPDX-License-Identifier: Apache-2.0
"""What an agent is told: where its conductor is, by which credentials both know each other, how often it looks.

Read once by `cli.agent`, from the agent's file and then the environment. Secrets are never said here: a setting names
the file that holds one.
"""

import ipaddress
import os
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.settings import given_in, read_toml

#: Every setting can be given in the environment as this prefix and its name in capitals.
PREFIX: Final = "CYBORG_AGENT_"
FILE: Final = Path("/etc/cyborg-agent/agent.toml")
LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """The settings of an agent, with what they are when nobody says otherwise.

    Attributes:
        conductor: the address of the conductor, as https://cloud.example:6670; an address without TLS is taken on
            loopback only, unless `plain_http` allows it.
        plain_http: whether tokens may travel without TLS, to the conductor and to the agent's own port.
        ca_file: the authorities that the conductor's certificate is checked by; the system's without it.
        client_cert_file, client_key_file: what the agent shows to a conductor that asks for a certificate.
        enrolment_file: holds the enrolment token, for the first look-up.
        state_dir: where the agent keeps its own token, its epoch, and what it could not deliver yet.
        bind: where the internal API listens; another address than loopback needs `tls_cert_file`. Port 0 is a free one.
        tls_cert_file, tls_key_file: the certificate of the internal API, and its key.
        tls_client_ca_file: the authorities of the clients' certificates; without it none is asked for.
        conductor_digest_file: holds by what the conductor is known at the internal API, as
            `cyborg-reconciler agents digest` prints it, one a line; without it all but `/hello` is refused.
        driver_credential_file: holds what drivers show to the agent and the agent to drivers; without it neither
            shows anything.
        dummy_devices: how many virtual devices the driver `dummy` offers, which has no hardware; 0 switches it off.
        poll_interval_s: how often to look at what the kernel tells no events of, such as sriov_numvfs.
        facts_interval_s: how often the facts are read anew though nothing tells of a change.
        spread_s: the first check-in after a boot comes at a random time within this, so that not all hosts come at
            once.
        log_format: `text` or `json`.
        user: whom to become where the agent is started by root; it keeps the right to read, and no other.
        root: below which folder the host's files lie; another than / is for simulated hosts.
    """

    conductor: str
    plain_http: bool = False
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    enrolment_file: Path | None = None
    state_dir: Path = Path("/var/lib/cyborg-agent")
    bind: str = "127.0.0.1:1337"
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    conductor_digest_file: Path | None = None
    driver_credential_file: Path | None = None
    dummy_devices: int = 0
    poll_interval_s: float = 5.0
    facts_interval_s: float = 300.0
    spread_s: float = 30.0
    log_format: str = "text"
    user: str = ""
    root: Path = Path("/")

    @property
    def address(self) -> tuple[str, int]:
        """Return where the internal API listens."""
        return parse_address(self.bind)


def read_agent_settings(environ: Mapping[str, str] | None = None, path: Path | None = None) -> AgentSettings:
    """Return the settings of this agent: of the file at *path*, which may be named in the environment too.

    Raises:
        SettingsInvalidError: a value is not what its name asks for, or two do not go together.
    """
    environ = os.environ if environ is None else environ
    named = path or (Path(environ[f"{PREFIX}CONFIG"]) if environ.get(f"{PREFIX}CONFIG") else None)
    file = named or FILE
    values = {name: (value, str(file)) for name, value in read_toml(file, must_exist=named is not None).items()}
    in_environment = given_in(environ, PREFIX, AgentSettings)
    values |= {name: (value, "the environment") for name, value in in_environment.items()}
    known = {field.name: field for field in fields(AgentSettings)}
    for name, (_, source) in values.items():
        if name not in known:
            raise SettingsInvalidError(wanted=f"one of {', '.join(sorted(known))}", found=f"{name} in {source}")
    for name, field in known.items():
        if name not in values and field.default is MISSING:
            raise SettingsInvalidError(wanted=f"{name}, in {file} or as {PREFIX}{name.upper()}", found="nothing")
    settings = AgentSettings(**{name: _convert(known[name], *given) for name, given in values.items()})
    _refuse_contradictions(settings)
    return settings


def _convert(field: Field[Any], value: object, source: str) -> Any:  # noqa: ANN401 - a setting's value
    kind = field.type.__args__[0] if isinstance(field.type, types.UnionType) else field.type
    text = str(value)
    if kind is Path and isinstance(value, str) and text:
        return Path(text).expanduser()
    if kind is str and isinstance(value, str):
        return text
    if kind is bool and text.lower() in {"true", "false", "0", "1"}:
        return text.lower() in {"true", "1"}
    if kind in {int, float} and not isinstance(value, bool):
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if kind is int and number.is_integer() and number >= 0:
            return int(number)
        if kind is float and 0 < number < float("inf"):
            return number
    words: dict[object, str] = {Path: "a path", str: "a text", bool: "true or false", int: "a whole number"}
    wanted = words.get(kind, "a number above 0")
    raise SettingsInvalidError(wanted=f"{wanted} for {field.name}", found=f"{value!r} in {source}")


def _refuse_contradictions(settings: AgentSettings) -> None:
    """Raise SettingsInvalidError for settings that do not go together, or that would show a token to everybody."""
    try:
        parts = urlsplit(settings.conductor)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment or parts.username:
        raise SettingsInvalidError(wanted="conductor as https://NAME:PORT", found=repr(settings.conductor))
    if parts.scheme == "http" and not settings.plain_http and not is_loopback(parts.hostname or ""):
        found = f"{settings.conductor}: tokens would travel in the clear; plain_http = true allows that"
        raise SettingsInvalidError(wanted="conductor as https://NAME:PORT", found=found)
    if not is_loopback(settings.address[0]) and not settings.tls_cert_file and not settings.plain_http:
        raise SettingsInvalidError(wanted=f"tls_cert_file, to listen on {settings.bind}", found="none")
    for one, other in (("tls_cert_file", "tls_key_file"), ("client_cert_file", "client_key_file")):
        if bool(getattr(settings, one)) != bool(getattr(settings, other)):
            raise SettingsInvalidError(wanted=f"{one} and {other}", found="one without the other")
    if settings.tls_client_ca_file and not settings.tls_cert_file:
        raise SettingsInvalidError(wanted="tls_cert_file beside tls_client_ca_file", found="none")
    if settings.log_format not in {"text", "json"}:
        raise SettingsInvalidError(wanted="text or json for log_format", found=repr(settings.log_format))


def parse_address(text: str) -> tuple[str, int]:
    """Return the host and the port of ``HOST:PORT``, or of ``[IPv6]:PORT``. Raises: SettingsInvalidError."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > LAST_PORT:
        raise SettingsInvalidError(wanted="HOST:PORT", found=repr(text))
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Say whether *host* can only be this machine: ``localhost``, or an address that is loopback."""
    try:
        return host == "localhost" or ("%" not in host and ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False

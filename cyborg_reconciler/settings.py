# SPDX-License-Identifier: Apache-2.0
"""What this installation is told beside its policies: folders, limits, intervals.

Read once by `bootstrap`, from the configuration file and then the environment, and passed on; never global.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from cyborg_reconciler.errors import SettingsInvalidError

#: Every setting can be given in the environment as this prefix and its name in capitals.
PREFIX: Final = "CYBORG_RECONCILER_"

#: The settings that are any text.
TEXTS: Final = {
    *("policies", "enrolment_secret_file", "tls_cert", "tls_key", "tls_client_ca"),
    *("agent_secret_file", "agent_ca", "agent_cert", "agent_key"),
}

#: What the settings may be that are one of a few words.
CHOICES: Final = {
    "agents": ("here", "elsewhere", "only"),
    "auth": ("token", "none"),
    "log_format": ("text", "json"),
    "metrics_access": ("reader", "anybody"),
    "cores": ("own", "any"),
}

#: What is several: in the environment one text, with what stands between them.
LISTS: Final = {"inventory": ":", "trusted_proxies": ","}

#: What may be 0, which turns it off.
MAY_BE_OFF: Final = {
    *("failed_logins_per_min", "requests_per_min", "lookups_per_min", "usage_devices"),
    *("events_keep_days", "plans_keep_days"),
}

#: Of these an empty variable says something; of others it is as good as none.
MAY_BE_EMPTY: Final = {"database"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings, with what they are when nobody says otherwise.

    Attributes:
        state_dir: where the journal and the runs are.
        database: where the journal is instead, as a URL of PostgreSQL (`postgresql://cyborg@db.example.com/cyborg`). A
            password does not belong in it: libpq finds it in `~/.pgpass`, or where `PGPASSFILE` says.
        inventory: what `-i` is when it is not given; several are separated by colons in the environment.
        policies: what `-p` is when it is not given.
        forks: hosts that Ansible works on at a time.
        events_keep_days: for how long events of the audit trail are kept, and at least until their run has ended; the
            loop forgets older ones. 0: for ever.
        plans_keep_days: for how long plans are kept that the API was asked for, where no run is of one. 0: for ever.
        run_timeout_s: a run of Ansible that takes longer is ended; reboots in it are given their own time on top.
        interval_s: between two looks of the loop at a host.
        facts_max_age_s: facts older than this never authorise a change.
        agents: where agents look up and check in: `here`, at each server of the API; `elsewhere`, which leaves that to
            servers that `conductor` starts; `only` is what those are told: they serve nobody else.
        auth: how users of the REST API say who they are: `token`, or `none` on loopback alone.
        log_format: how servers write their logs, to standard error: `text` for people, `json` for programs.
        metrics_access: who may read `/metrics`: a user who is `reader` at least, or `anybody` who reaches the server.
        usage_devices: devices whose usage `/metrics` tells, at most: each has some ten numbers. 0: none.
        threads: of each process that serves the REST API; event streams take half of them at most.
        cores: on which of the machine's cores these processes run: `own`, where each core has as many of them,
            each stays on one; `any`: wherever the kernel puts them.
        heartbeat_interval_s: between two check-ins of an agent; after three and a save-out interval it is silent.
        save_out_interval_s: between two writes of check-ins in which nothing had changed.
        save_out_batch: check-ins that are written in one transaction, at most.
        enrolment_secret_file: holds the secret by which agents of unknown hosts register; without it, none do.
        sign_of_life_s: between two times that a server, a conductor or a worker says that it is up; it is down after
            three that are missing.
        agent_secret_file: holds a random secret, of which is made what the conductor shows to the agent of each host at
            its own port, where the inventory says where that is (`cyborg_agent_endpoint`); without it agents are told
            all in the answers to their check-ins.
        agent_ca: the file (PEM) of the CAs of the agents' certificates; the system's without it.
        agent_cert: the file (PEM) of the certificate that the conductor shows to agents which ask for one.
        agent_key: the file (PEM) of that certificate's key, where it is a file of its own.
        token_cache_s: a token that was valid is believed for so many seconds before the database is asked again; one
            that is revoked works no longer than that.
        failed_logins_per_min: requests with a wrong token or none that are answered 401, a minute and address; 429
            beyond that. For each serving process on its own; 0: as many as come.
        requests_per_min: requests a minute and token, a user's or an agent's, and 429 beyond that. For each serving
            process on its own; 0: as many as come.
        lookups_per_min: look-ups of agents a minute and address, and 429 beyond that. For each serving process on its
            own; 0: as many as come.
        trusted_proxies: addresses and networks whose `X-Forwarded-For` says where a request came from; separated by
            commas in the environment.
        tls_cert: the file (PEM) of the API's certificate, with those between it and its CA; with it the API speaks TLS
            alone.
        tls_key: the file (PEM) of the certificate's key, where that is a file of its own.
        tls_client_ca: the file (PEM) of the CAs whose certificates clients must have; none is asked for without it.
    """

    state_dir: Path
    database: str = ""
    inventory: tuple[str, ...] = ()
    policies: str = ""
    forks: int = 10
    events_keep_days: int = 365
    plans_keep_days: int = 90
    run_timeout_s: int = 3600
    interval_s: int = 300
    facts_max_age_s: int = 900
    agents: str = "here"
    auth: str = "token"
    log_format: str = "text"
    metrics_access: str = "reader"
    usage_devices: int = 10_000
    threads: int = 8
    cores: str = "own"
    heartbeat_interval_s: int = 60
    save_out_interval_s: int = 5
    save_out_batch: int = 500
    enrolment_secret_file: str = ""
    sign_of_life_s: int = 10
    agent_secret_file: str = ""
    agent_ca: str = ""
    agent_cert: str = ""
    agent_key: str = ""
    token_cache_s: int = 5
    failed_logins_per_min: int = 60
    requests_per_min: int = 30_000
    lookups_per_min: int = 600
    trusted_proxies: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""

    @property
    def journal(self) -> str:
        """Where the journal is, in words for people."""
        return self.database or str(self.state_dir)


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process.

    Raises:
        SettingsInvalidError: the file is not TOML, or a value is not what its name asks for.
    """
    environ = os.environ if environ is None else environ
    home = Path(environ.get("HOME") or "/")
    state = Path(environ.get("XDG_STATE_HOME") or home / ".local/state") / "cyborg-reconciler"
    settings = Settings(state_dir=state)
    path = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "cyborg-reconciler/config.toml"
    named = environ.get(f"{PREFIX}CONFIG")
    settings = _with(settings, read_toml(Path(named) if named else path, must_exist=bool(named)), named or str(path))
    return _with(settings, given_in(environ, PREFIX, Settings), "the environment")


def read_toml(path: Path, *, must_exist: bool) -> dict[str, Any]:
    """Return what the file at *path* says; it may be missing, unless it *must_exist*. Raises: SettingsInvalidError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise SettingsInvalidError(wanted=f"the configuration file {path}", found="it is not there") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsInvalidError(wanted=f"a readable TOML file {path}", found=str(exc)) from exc
    return {}


def given_in(environ: Mapping[str, str], prefix: str, kind: type[Any]) -> dict[str, str]:
    """Return what *environ* says of the fields of *kind*, each as *prefix* and its name in capitals."""
    names = {field.name: prefix + field.name.upper() for field in fields(kind)}
    there = {name: environ[variable] for name, variable in names.items() if variable in environ}
    return {name: value for name, value in there.items() if value or name in MAY_BE_EMPTY}


def _with(settings: Settings, values: Mapping[str, Any], source: str) -> Settings:
    """Return *settings* with *values* from *source*."""
    known = {field.name for field in fields(Settings)}
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise SettingsInvalidError(wanted=f"one of {', '.join(sorted(known))}", found=f"{name} in {source}")
        changed[name] = _convert(name, value, source)
    return replace(settings, **changed)


def _convert(name: str, value: object, source: str) -> Path | str | int | tuple[str, ...]:
    if name == "state_dir":
        return Path(str(value)).expanduser()
    if name in TEXTS:
        return str(value)
    if name in CHOICES:
        return _check_choice(name, value, source)
    if name == "database":
        return _check_database(str(value), source)
    if name in LISTS:
        return _several(name, value, source)
    return _whole_number(name, value, source)


def _check_choice(name: str, value: object, source: str) -> str:
    if value in CHOICES[name]:
        return str(value)
    raise SettingsInvalidError(wanted=f"{' or '.join(CHOICES[name])} for {name}", found=f"{value!r} in {source}")


def _whole_number(name: str, value: object, source: str) -> int:
    least = 0 if name in MAY_BE_OFF else 1
    if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) < least:
        kind = "a whole number, 0 or more," if least == 0 else "a whole number above 0"
        raise SettingsInvalidError(wanted=f"{kind} for {name}", found=f"{value!r} in {source}")
    return int(str(value))


def _several(name: str, value: object, source: str) -> tuple[str, ...]:
    found = tuple(map(str, value)) if isinstance(value, list) else tuple(str(value).split(LISTS[name]))
    if name != "trusted_proxies":
        return found
    try:
        return tuple(str(ip_network(one.strip())) for one in found)
    except ValueError as exc:
        raise SettingsInvalidError(wanted=f"addresses and networks for {name}", found=f"{exc} in {source}") from exc


def _check_database(url: str, source: str) -> str:
    """Return *url* when it is one that may be shown. What is wrong with it is said without it: it may hold a secret."""
    wanted = "a URL such as postgresql://user@host/name as `database`"
    if not url:
        return url
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        raise SettingsInvalidError(wanted=wanted, found=f"what is in {source} is none") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise SettingsInvalidError(wanted=wanted, found=f"one that begins otherwise in {source}")
    if ":" in parts.netloc.rpartition("@")[0] or any("password" in name for name, _ in options):
        raise SettingsInvalidError(
            wanted="a `database` without a password",
            found=f"one in {source}, where others may come to see it",
            remedy="put it into ~/.pgpass (mode 0600), or into the file that PGPASSFILE names",
        )
    return url

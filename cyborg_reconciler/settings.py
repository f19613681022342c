# SPDX-License-Identifier: Apache-2.0
"""What this installation is told beside its policies: folders, limits, intervals.

Read once by `bootstrap`, from the configuration file and then the environment, and passed on; never global.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from cyborg_reconciler.errors import SettingsInvalidError

#: Every setting can be given in the environment as this prefix and its name in capitals.
PREFIX: Final = "CYBORG_RECONCILER_"

#: The settings that are any text.
TEXTS: Final = {"policies", "enrolment_secret_file"}

#: What the settings may be that are one of a few words.
CHOICES: Final = {"auth": ("token", "none")}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings, with what they are when nobody says otherwise.

    Attributes:
        state_dir: where the journal and the runs are.
        inventory: what `-i` is when it is not given; several are separated by colons in the environment.
        policies: what `-p` is when it is not given.
        forks: hosts that Ansible works on at a time.
        run_timeout_s: a run of Ansible that takes longer is ended; reboots in it are given their own time on top.
        interval_s: between two looks of the loop at a host.
        facts_max_age_s: facts older than this never authorise a change.
        auth: how users of the REST API say who they are: `token`, or `none` on loopback alone.
        threads: of each process that serves the REST API; event streams take half of them at most.
        heartbeat_interval_s: between two check-ins of an agent; one that misses three is silent.
        save_out_interval_s: between two writes of check-ins in which nothing had changed.
        save_out_batch: check-ins that are written in one transaction, at most.
        enrolment_secret_file: holds the secret by which agents of unknown hosts register; without it, none do.
    """

    state_dir: Path
    inventory: tuple[str, ...] = ()
    policies: str = ""
    forks: int = 10
    run_timeout_s: int = 3600
    interval_s: int = 300
    facts_max_age_s: int = 900
    auth: str = "token"
    threads: int = 4
    heartbeat_interval_s: int = 60
    save_out_interval_s: int = 5
    save_out_batch: int = 500
    enrolment_secret_file: str = ""


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
    path = Path(named) if named else path
    try:
        settings = _with(settings, tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        if named:
            raise SettingsInvalidError(wanted=f"the configuration file {path}", found="it is not there") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsInvalidError(wanted=f"a readable TOML file {path}", found=str(exc)) from exc
    given = {
        field.name: environ[PREFIX + field.name.upper()]
        for field in fields(Settings)
        if environ.get(PREFIX + field.name.upper())
    }
    return _with(settings, given, "the environment")


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
        if value not in CHOICES[name]:
            raise SettingsInvalidError(
                wanted=f"{' or '.join(CHOICES[name])} for {name}", found=f"{value!r} in {source}"
            )
        return str(value)
    if name == "inventory":
        return tuple(map(str, value)) if isinstance(value, list) else tuple(str(value).split(":"))
    if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) < 1:
        raise SettingsInvalidError(wanted=f"a whole number above 0 for {name}", found=f"{value!r} in {source}")
    return int(str(value))

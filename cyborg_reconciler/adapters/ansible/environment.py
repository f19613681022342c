# SPDX-License-Identifier: Apache-2.0
"""Which environment does Ansible run in? The user's, with his ansible.cfg, our collection first, and host keys checked.

Called before each start of Ansible. Reads the user's ansible.cfg; starts nothing.
"""

import configparser
import importlib.util
import os
import re
import stat
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cyborg_reconciler.errors import ExecutionError

#: In the environment of every process of a run; its value is the run's uuid.
MARKER: Final = "CYBORG_RECONCILER_RUN"

#: ansible-runner empties a result of more characters; its own limit is below the facts of 512 devices.
LARGEST_RESULT: Final = "100000000"

#: A locale that says nothing but its encoding. Source: glibc 2.35, NEWS; Debian and its kin have it for longer.
UTF8_LOCALE: Final = "C.UTF-8"

COLLECTION: Final = "ansible_collections.openstack.cyborg"

#: Source: ansible-core, `ansible-config list`, COLLECTIONS_PATHS.
DEFAULT_COLLECTIONS: Final = "~/.ansible/collections:/usr/share/ansible/collections"


def find_config(environ: Mapping[str, str], folder: Path) -> Path | None:
    """Return the ansible.cfg that ansible-core would use when started in *folder*.

    Source: ansible-core, configuration file: variable, folder (unless all may write there), home, /etc.
    """
    candidates = [Path(environ.get("HOME", "/")) / ".ansible.cfg", Path("/etc/ansible/ansible.cfg")]
    if not folder.stat().st_mode & stat.S_IWOTH:
        candidates.insert(0, folder / "ansible.cfg")
    if environ.get("ANSIBLE_CONFIG"):
        named = folder / Path(environ["ANSIBLE_CONFIG"]).expanduser()
        candidates.insert(0, named / "ansible.cfg" if named.is_dir() else named)
    return next((path for path in candidates if path.is_file() and os.access(path, os.R_OK)), None)


def read_config(path: Path | None) -> dict[tuple[str, str], str]:
    """Return the settings of the ansible.cfg at *path*, by section and key. A broken one is for Ansible to report."""
    parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";",))
    try:
        if path:
            parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    return {(section, key): value for section in parser.sections() for key, value in parser.items(section)}


def find_collection() -> Path:
    """Return the folder of the collection that this program was installed with.

    Raises:
        ExecutionError: there is none.
    """
    spec = importlib.util.find_spec(COLLECTION)
    beside = Path(__file__).parents[3] / "collections" / COLLECTION.replace(".", "/")
    places = [*(Path(place) for place in (spec.submodule_search_locations or () if spec else ())), beside]
    for place in places:
        if (place / "plugins").is_dir():
            return place
    raise ExecutionError(
        wanted="the collection openstack.cyborg",
        found="it is not beside this program",
        remedy="install the package again: its wheel carries the collection",
    )


def collections_path(environ: Mapping[str, str], config: Path | None, settings: Mapping[tuple[str, str], str]) -> str:
    """Return where Ansible looks for the user's collections, as absolute paths."""
    for name in ("ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_COLLECTIONS_PATHS"):
        if environ.get(name):
            return environ[name]
    folder = config.parent if config else Path("/")
    for key in ("collections_path", "collections_paths"):
        if settings.get(("defaults", key)):
            return ":".join(str(folder / Path(place).expanduser()) for place in settings["defaults", key].split(":"))
    return DEFAULT_COLLECTIONS


def host_key_checking(environ: Mapping[str, str], settings: Mapping[tuple[str, str], str]) -> str:
    """Return whether host keys are checked: they are, unless the user's own configuration says otherwise.

    ansible-runner switches it off when the variable is not set, so it always is.
    """
    for name in ("ANSIBLE_SSH_HOST_KEY_CHECKING", "ANSIBLE_HOST_KEY_CHECKING"):
        if environ.get(name):
            return environ[name]
    for section in ("ssh_connection", "defaults"):
        if settings.get((section, "host_key_checking")):
            return settings[section, "host_key_checking"]
    return "True"


def locale_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what makes the locale one in which Ansible starts: it refuses any whose encoding is not UTF-8.

    Where nothing is set, Python takes UTF-8 by itself (PEP 538).
    """
    chosen = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), UTF8_LOCALE)
    return {} if re.search(r"utf-?8", chosen, re.IGNORECASE) else {"LC_ALL": UTF8_LOCALE}


def base_environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment of any Ansible program that is started from *folder*."""
    config = find_config(environ, folder)
    kept = {name: value for name, value in environ.items() if not name.startswith("CYBORG_")}
    kept.pop("ANSIBLE_FORCE_COLOR", None)
    # A group that is missing because its file could not be read would take policies off hosts: better to stop.
    strict = {"ANSIBLE_INVENTORY_UNPARSED_FAILED": "True", "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True"}
    return {
        **strict,
        **kept,
        **locale_of(environ),
        **({"ANSIBLE_CONFIG": str(config)} if config else {}),
        "ANSIBLE_NOCOLOR": "True",
        # The interpreter's own programs: ansible-runner takes the ansible-playbook that it finds first.
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), environ.get("PATH", os.defpath)]),
    }


def run_environment(environ: Mapping[str, str], folder: Path, run: Path) -> dict[str, str]:
    """Return the environment of a run in the folder *run*, which is named as the run is."""
    settings = read_config(config := find_config(environ, folder))
    return {
        **base_environment(environ, folder),
        "ANSIBLE_COLLECTIONS_PATH": f"{run / 'collections'}:{collections_path(environ, config, settings)}",
        "ANSIBLE_HOST_KEY_CHECKING": host_key_checking(environ, settings),
        "ANSIBLE_CACHE_PLUGIN": "memory",
        "MAX_EVENT_RES": LARGEST_RESULT,
        "ANSIBLE_LOCAL_TEMP": str(run / "tmp"),
        MARKER: run.name,
    }

# SPDX-License-Identifier: Apache-2.0
"""From where, and how, does this machine's apt reach Debian's archive?

Called by `image`, so that the guests' packages come the way that the machine's own come. Reads apt's settings.
"""

import subprocess

from tests.lab.needs import LabUnavailable

#: Settings that decide how an archive is reached: proxies, and checks of dates.
CARRIED_OVER = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-")


def read_mirrors(suite: str) -> list[str]:
    """Return apt's one-line sources of the Debian release *suite*, at the addresses used for any Debian release here.

    Raises:
        LabUnavailable: apt has no source of Debian at all.
    """
    form = "$(CREATED_BY)|$(COMPONENT)|$(LABEL)|$(REPO_URI)"
    answer = subprocess.run(
        ["apt-get", "indextargets", "--format", form], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split("|") for line in answer.splitlines())
    address = {label: uri for *index, label, uri in rows if index == ["Packages", "main"]}
    if "Debian" not in address:
        raise LabUnavailable("apt on this machine names no Debian archive with `main`: add one, then apt-get update")
    lines = [f"deb {address['Debian']} {each} main" for each in (suite, f"{suite}-updates")]
    if "Debian-Security" in address:
        lines.append(f"deb {address['Debian-Security']} {suite}-security main")
    return lines


def read_apt_options() -> list[str]:
    """Return this machine's own apt settings that decide how an archive is reached."""
    answer = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return [line.rstrip(";") for line in answer.splitlines() if line.startswith(CARRIED_OVER)]

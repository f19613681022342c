# SPDX-License-Identifier: Apache-2.0
"""What does this machine lack to run the lab, and which command installs it?

Called by `image` and by the fixtures before anything is built or started. Reads the machine; changes nothing.
"""

import os
import platform
import re
import shutil
import subprocess

#: igb, the SR-IOV NIC of the lab, came with this release.
#: Source: QEMU change log, 8.0, "Device emulation, PCI/PCIe".
QEMU_MAJOR = 8

INSTALL = "sudo tests/lab/install.sh"
PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


class LabUnavailable(Exception):  # noqa: N818 - it names the state of the lab, as `GuestUnreachable` does a guest's
    """The lab cannot run on this machine; the message says what is missing and how to get it."""


def read_missing(*, root: bool) -> tuple[str, ...]:
    """Return one line for each thing that is missing; empty when the lab can run. *root* asks for root as well."""
    packages = sorted({package for command, package in PACKAGES.items() if not shutil.which(command)})
    lines = [f"missing: {' '.join(packages)}. Install with: {install_command(packages)}"] if packages else []
    if shutil.which("qemu-system-x86_64"):
        lines += read_qemu_faults()
    if root and os.geteuid() != 0:
        lines.append("building the guest's image needs root. Run: sudo make lab")
    return tuple(lines)


def read_qemu_faults() -> list[str]:
    """Return what is wrong with the QEMU that is installed: its age, or that it was built without igb."""
    remedy = f"Install with: {install_command(['qemu-system-x86', 'qemu-utils'])}"
    version = read_qemu_version()
    if int(version.split(".")[0]) < QEMU_MAJOR:
        return [f"QEMU {version} is older than {QEMU_MAJOR} and has no igb device. {remedy}"]
    devices = subprocess.run(["qemu-system-x86_64", "-device", "help"], capture_output=True, text=True, check=True)
    if not re.search(r'^name "igb"', devices.stdout, re.MULTILINE):
        return [f"QEMU {version} was built without the igb device. {remedy}"]
    return []


def read_qemu_version() -> str:
    """Return the version of QEMU, such as ``10.0.2``."""
    answer = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d[\w.]*)", answer.stdout)
    if not found:
        raise LabUnavailable(f"qemu-system-x86_64 --version says {answer.stdout!r}, which names no version")
    return found[1]


def install_command(packages: list[str]) -> str:
    """Return the exact command that installs *packages*, with the reason why a script precedes it."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")
    return (
        f"{INSTALL} (it adds {codename}-backports where the release's QEMU is too old, then runs: "
        f"apt-get -t {codename}-backports install {' '.join(packages)})"
    )


def require(*, root: bool) -> None:
    """Raise LabUnavailable, with every missing thing at once, unless the lab can run here."""
    missing = read_missing(root=root)
    if missing:
        raise LabUnavailable("the lab cannot run here: " + "; ".join(missing))

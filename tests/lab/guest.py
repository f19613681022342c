# SPDX-License-Identifier: Apache-2.0
"""How is one virtual host started, spoken to, changed and ended?

Called by `snapshot`, the fixtures and the tests. Runs QEMU. A guest's QEMU dies with the
process that started it.
"""

import re
import subprocess
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.lab.connection import CommandFailed, Connection, GuestUnreachable
from tests.lab.image import Image
from tests.lab.machine import Boot, Device, Machine, qemu_command, root_port_address
from tests.lab.place import GuestFolder
from tests.lab.qmp import Qmp, QmpError
from tests.lab.watchdog import Watchdog

#: TCG on a busy machine takes minutes for what takes it 20 s on a quiet one.
BOOT_TIMEOUT_S = 600.0
SSH_TIMEOUT_S = 300.0
CONSOLE_TAIL_LINES = 60
#: A kernel asks for a reset in several ways, and QEMU reports each; no boot is as short as this.
SAME_RESET_S = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """What a guest's disk and state go back to.

    Attributes:
        disk: an image or a snapshot's disk, with its format; never written to.
        state: the state saved with that disk; None to boot.
    """

    disk: Path
    disk_format: str
    state: Path | None = None


class Guest:
    """One virtual host.

    Attributes:
        name: its host name, once it has its own identity, and its name in inventories.
        ssh_port: the loopback port that leads to its sshd; stays the same as long as the guest exists.
        origin: what it was made from.
    """

    def __init__(self, name: str, image: Image, boot: Boot, origin: Origin) -> None:
        self.name, self.image, self.boot, self.origin = name, image, boot, origin
        self.ssh_port = 0
        self._folder = GuestFolder.make(name)
        self.disk = self._folder.files / "disk.qcow2"
        self.console = self._folder.files / "console.log"
        self.known_hosts = self._folder.files / "known_hosts"
        self._conductor = self._folder.files / "conductor"
        self._connection = Connection(image.user_key, self.known_hosts, self._folder.sockets)
        self._host_key = image.host_key
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._watchdog: Watchdog | None = None
        backing = ["-b", str(origin.disk), "-F", origin.disk_format]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self.disk)], check=True)

    # --- power -----------------------------------------------------------------------------------------------------

    def power_on(self, *, resume: bool = False) -> None:
        """Start QEMU; *resume* goes on from the origin's saved state. Returns before the guest answers: see `wait_ssh`.

        Call it from the main thread: QEMU is killed when the thread that started it ends.
        """
        socket, watched = (self._folder.sockets / name for name in ("qmp", "watched"))
        socket.unlink(missing_ok=True)
        watched.unlink(missing_ok=True)
        state = self.origin.state if resume else None
        places = (self.disk, self.console, socket, watched, self._conductor)
        machine = Machine(self.name, self.image, self.boot, *places, self.ssh_port, state)
        command = ["setpriv", "--pdeathsig", "KILL", *qemu_command(machine)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        self._qmp = self._connect(socket)
        self._watchdog = Watchdog(self.name, self.process_id, self._connect(watched), self.console, boots=state is None)
        self.ssh_port = _parse_forwarded_port(self.qmp.monitor("info usernet"))
        self._connection.trust(self.ssh_port, self._host_key.with_suffix(".pub"))
        if resume:
            self._resume()

    def power_off(self) -> None:
        """Cut the power. The disk stays, and `power_on` boots from it."""
        self.leave_ssh()
        if self._watchdog:
            self._watchdog.stop()
        if self._qmp:
            with suppress(QmpError):  # it may go before it has answered, which is what was asked
                self._qmp.command("quit")
            self._qmp.close()
            self._qmp = None
        if self._process:
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the guest and remove all that it had on this machine."""
        self.power_off()
        self._folder.remove()

    @property
    def is_on(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int:
        """The id of its QEMU's process; 0 when it is off."""
        return self._process.pid if self._process else 0

    @property
    def qmp(self) -> Qmp:
        """The connection to the guest's QEMU."""
        if self._qmp is None:
            raise GuestUnreachable(f"{self.name} is powered off")
        return self._qmp

    # --- words -----------------------------------------------------------------------------------------------------

    def ssh(self, command: str, *, timeout_s: float = SSH_TIMEOUT_S, stdin: str = "") -> str:
        """Run a shell *command* as the ordinary user `lab`, who may sudo, and return what it wrote to standard output.

        Raises:
            CommandFailed: it did not end with 0.
            GuestUnreachable: there was no connection, or no end in time.
        """
        if not self.is_on:
            raise GuestUnreachable(f"{self.name} is powered off")
        return self._connection.run(command, timeout_s=timeout_s, stdin=stdin)

    def leave_ssh(self) -> None:
        """Close the connection that `ssh` keeps open between commands."""
        self._connection.leave()

    def wait_ssh(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait until the guest answers over ssh.

        Raises:
            GuestUnreachable: it did not within *timeout_s*, or its QEMU ended.
        """
        self._wait_for("true", timeout_s)

    def boot_id(self) -> str:
        """Return the kernel's id of this boot. Guests restored from one snapshot share it until they reboot."""
        return self.ssh("cat /proc/sys/kernel/random/boot_id").strip()

    def reboot(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Let the guest reboot, and wait until it answers again."""
        before = self.boot_id()
        with suppress(GuestUnreachable, CommandFailed):  # sshd may be gone before it could tell how that ended
            self.ssh("sudo systemctl reboot")
        self.leave_ssh()
        self._wait_for(f"! grep -q {before} /proc/sys/kernel/random/boot_id", timeout_s)

    def reboot_count(self) -> int:
        """Return how often the machine was reset since it was powered on, as seen from outside; not by the watchdog."""
        self.qmp.command("query-status")  # brings in the events that came before its answer
        times = [event["timestamp"]["seconds"] for event in self.qmp.events if event["event"] == "RESET"]
        rescued = self._watchdog.resets if self._watchdog else []
        times = [at for at in times if not any(abs(at - reset) <= SAME_RESET_S for reset in rescued)]
        return sum(after - before > SAME_RESET_S for before, after in pairwise([-SAME_RESET_S, *times]))

    @property
    def hangs(self) -> int:
        """How often it hung while it booted and was reset for that, since it was powered on."""
        return len(self._watchdog.resets) if self._watchdog else 0

    def lead_to_conductor(self, port: int) -> None:
        """Have what the guest says to CONDUCTOR go to the loopback *port* from now on, over every boot."""
        self._conductor.write_text(str(port))

    # --- devices ---------------------------------------------------------------------------------------------------

    def hot_plug(self, device: Device, port: str = "rp2") -> str:
        """Plug *device* into the free root port *port*, and return its PCI address once the guest has it."""
        if device.backend:
            self.qmp.command("object-add", device.backend)
        self.qmp.command("device_add", {"driver": device.model, "id": device.name, "bus": port, **device.properties})
        behind = f"/sys/bus/pci/devices/{root_port_address(port)}/0000:*/vendor"
        found = self.ssh(f"for i in $(seq 300); do ls -d {behind} 2>/dev/null && exit; sleep 0.2; done; exit 1")
        return Path(found.split()[0]).parent.name

    def hot_unplug(self, device: Device, timeout_s: float = 120.0) -> None:
        """Ask the guest to give *device* back, and wait until it has."""
        self.qmp.command("device_del", {"id": device.name})
        self.qmp.wait_event("DEVICE_DELETED", timeout_s, device=device.name)
        if device.backend:
            self.qmp.command("object-del", {"id": device.backend["id"]})

    # --- identity --------------------------------------------------------------------------------------------------

    def adopt_identity(self) -> None:
        """Give the guest a host name, a machine id, an ssh host key and a clock of its own.

        It comes from a snapshot that others come from too. Afterwards the key of the snapshot is trusted no more.
        """
        key = self._folder.files / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(key)], check=True)
        script = IDENTITY.format(name=self.name, machine_id=uuid.uuid4().hex, now=time.time(), key=key.read_text())
        self.ssh("sudo sh -eu", stdin=script)
        self.leave_ssh()
        self._host_key = key
        self._connection.trust(self.ssh_port, key.with_suffix(".pub"))
        self.wait_ssh()  # a reload returns before sshd has started itself anew; who comes meanwhile is reset

    # --- what Ansible needs ----------------------------------------------------------------------------------------

    def inventory_vars(self) -> dict[str, object]:
        """Return the variables with which Ansible reaches the guest: its host key is checked, its sudo asks nothing."""
        return self._connection.inventory_vars()

    def inventory_line(self) -> str:
        """Return the guest's line of an INI inventory."""
        values = " ".join(f'{name}="{value}"' for name, value in self.inventory_vars().items())
        return f"{self.name} {values}"

    def console_tail(self) -> str:
        """Return the last lines that the guest wrote to its serial console."""
        if not self.console.exists():
            return "(nothing)"
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-CONSOLE_TAIL_LINES:])

    # --- within ----------------------------------------------------------------------------------------------------

    def _connect(self, socket: Path) -> Qmp:
        deadline = time.monotonic() + 60
        while True:
            try:
                return Qmp(socket)
            except OSError:
                if not self.is_on or time.monotonic() > deadline:
                    raise GuestUnreachable(f"{self.name}: QEMU did not start; its reason stands above") from None
                time.sleep(0.05)

    def _resume(self) -> None:
        while self.qmp.command("query-status")["status"] == "inmigrate":
            time.sleep(0.05)
        self.qmp.command("cont")  # it was stopped when it was saved

    def _wait_for(self, command: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.ssh(command, timeout_s=max(deadline - time.monotonic(), 1))
            except (GuestUnreachable, CommandFailed) as error:
                if not self.is_on or time.monotonic() > deadline:
                    raise GuestUnreachable(f"{self.name} does not answer: {error}\n{self.console_tail()}") from error
                time.sleep(0.5)
            else:
                if self._watchdog:
                    self._watchdog.is_up()
                return


#: Runs in the guest as root. A host name first, since sudo looks it up.
IDENTITY = """
date --set=@{now:.0f} >/dev/null
sed -i 's/^127\\.0\\.1\\.1 .*/127.0.1.1 {name}/' /etc/hosts
echo {name} >/etc/hostname
hostname {name}
echo {machine_id} >/etc/machine-id
cat >/etc/ssh/ssh_host_ed25519_key <<'KEY'
{key}KEY
ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key >/etc/ssh/ssh_host_ed25519_key.pub
systemctl reload ssh
sync
"""


def _parse_forwarded_port(usernet: str) -> int:
    found = re.search(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", usernet)
    if not found:
        raise QmpError(f"no forwarded port in {usernet!r}")
    return int(found[1])

# SPDX-License-Identifier: Apache-2.0
"""How is a command run in a guest, and how is it known that it is that guest?

Called by `guest`. Runs ssh, as an ordinary user, with the host's key checked against a file that the lab itself wrote.
"""

import shlex
import subprocess
from pathlib import Path

USER = "lab"
#: What ssh itself exits with when it could not connect. Source: ssh(1), EXIT STATUS.
SSH_FAILED = 255


class GuestUnreachable(Exception):  # noqa: N818 - it names the state of the guest
    """No ssh connection to the guest came about, or it broke."""


class CommandFailed(Exception):  # noqa: N818 - it names what happened
    """A command in a guest did not end with 0.

    Attributes:
        returncode, stdout, stderr: of the command.
    """

    def __init__(self, command: str, done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"{command!r} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        self.returncode, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr


class Connection:
    """The way into one guest.

    Attributes:
        user_key: the private key of the user.
        known_hosts: the file with the one host key that is accepted.
        sockets: a folder with a short path, for the connection that stays open between commands.
    """

    def __init__(self, user_key: Path, known_hosts: Path, sockets: Path) -> None:
        self.user_key, self.known_hosts, self.sockets = user_key, known_hosts, sockets
        self._port = 0

    def trust(self, port: int, public_key: Path) -> None:
        """Accept *public_key*, and no other, as that of the host behind the loopback *port*."""
        self._port = port
        algorithm, key, *_ = public_key.read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{port} {algorithm} {key}\n")

    def run(self, command: str, *, timeout_s: float, stdin: str) -> str:
        """Return what the shell *command* wrote to standard output.

        Raises:
            CommandFailed: it did not end with 0.
            GuestUnreachable: there was no connection, or no end in time.
        """
        persist = ["-o", "ControlMaster=auto", "-o", "ControlPersist=600", "-o", f"ControlPath={self._control}"]
        arguments = ["ssh", "-F", "none", "-i", str(self.user_key), *self._options(), *persist]
        try:
            done = subprocess.run(
                [*arguments, "-p", str(self._port), f"{USER}@127.0.0.1", command],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise GuestUnreachable(f"no end of {command!r} within {timeout_s:.0f} s") from error
        if done.returncode == SSH_FAILED:
            raise GuestUnreachable(done.stderr.strip())
        if done.returncode:
            raise CommandFailed(command, done)
        return done.stdout

    def leave(self) -> None:
        """Close the connection that stays open between commands."""
        if self._control.exists():
            leave = ["ssh", "-F", "none", "-O", "exit", "-o", f"ControlPath={self._control}", "127.0.0.1"]
            subprocess.run(leave, capture_output=True, check=False)  # a connection that is gone needs no end

    def inventory_vars(self) -> dict[str, object]:
        """Return the variables with which Ansible takes the same way: host key checked, sudo without a question."""
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": self._port,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.user_key),
            "ansible_ssh_common_args": shlex.join(self._options()),
            "ansible_control_path_dir": str(self.sockets),
            "ansible_become": True,
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    @property
    def _control(self) -> Path:
        return self.sockets / "ssh"

    def _options(self) -> list[str]:
        settings = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": 30,
            "ServerAliveInterval": 15,
            "ServerAliveCountMax": 8,
            "LogLevel": "ERROR",
        }
        return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]

# SPDX-License-Identifier: Apache-2.0
"""Simulated hosts, up and reachable by Ansible: what `demo`, the integration tests and the bench start.

Does I/O: writes trees, starts one process a host, and ends each by its pid.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cyborg_reconciler.simulation.boot import SOCKET
from cyborg_reconciler.simulation.disk import install
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.machine import Machine
from cyborg_reconciler.simulation.result import Result
from cyborg_reconciler.simulation.tree import Tree

ANSWER_TIMEOUT_S: Final = 60
END_TIMEOUT_S: Final = 5
#: The discard port: where nobody listens, so that a host that is off refuses Ansible's connection.
CLOSED_PORT: Final = 9


def write_tree(machine: Machine, root: Path) -> None:
    """Write the tree of *machine* at *root*, installed and booted; no process plays its kernel yet."""
    root.mkdir(parents=True, exist_ok=True)
    tree = Tree(root)
    install(tree, machine)
    Kernel(tree).boot()


class SimulatedHost:
    """One host: its tree, and the process that plays its kernel.

    Attributes:
        root: what modules get as ``root``, and the inventory as ``cyborg_root``.
        pid: of the process, None while the host is off.
    """

    def __init__(self, machine: Machine, root: Path) -> None:
        self.machine, self.name, self.root = machine, machine.name, root
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the pid of the process that plays the kernel."""
        return self._process.pid if self._process else None

    # ----------------------------------------------------------------------------------------------------- the process
    def power_on(self) -> None:
        """Start the process; does nothing where it runs."""
        if self._process is None:
            self._launch()
            self._wait_until_ready()

    def _launch(self) -> None:
        command = [sys.executable, "-m", __package__, str(self.root)]
        # The pipe to its standard input is what ties its life to ours: it ends when we do, however we do.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _wait_until_ready(self) -> None:
        output = self._process.stdout if self._process else None
        if output is None or output.readline() != b"ready\n":
            self.power_off()
            message = f"the kernel of {self.name} did not start"
            raise RuntimeError(message)

    def power_off(self) -> None:
        """End the process, as when the plug is pulled: the tree stays as it is."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(END_TIMEOUT_S)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
        with contextlib.suppress(FileNotFoundError):
            (self.root / "run" / SOCKET).unlink()

    # -------------------------------------------------------------------------------------------------------- requests
    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request to the kernel's process and return its answer. Raises: OSError where the host is off."""
        return self.send(json.dumps(request).encode() + b"\n")

    def send(self, line: bytes) -> dict[str, Any]:
        """Send one line and return the answer to it. Raises: OSError where the host is off."""
        folder = os.open(self.root / "run", os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(ANSWER_TIMEOUT_S)
                client.connect(f"/proc/self/fd/{folder}/{SOCKET}")
                client.sendall(line)
                with client.makefile("rb") as answers:
                    answer: dict[str, Any] = json.loads(answers.readline())
        finally:
            os.close(folder)
        return answer

    def write(self, path: str, value: str | int) -> None:
        """Write to an attribute of the kernel, as a user's ``echo`` does. Raises: OSError, as the kernel would."""
        self._ask_or_raise({"write": path, "value": str(value)}, path)

    def _ask_or_raise(self, request: dict[str, Any], what: str) -> dict[str, Any]:
        answer = self.ask(request)
        if answer["errno"]:
            raise OSError(answer["errno"], answer.get("text") or os.strerror(answer["errno"]), what)
        return answer

    def read(self, path: str) -> str:
        """Return the text of a file of the host, without the last line's end. Raises: FileNotFoundError."""
        return (self.root / path.lstrip("/")).read_text(encoding="utf-8").removesuffix("\n")

    def link_name(self, path: str) -> str | None:
        """Return the name that a link of the host leads to (a driver, say), None where there is no link."""
        return Tree(self.root).target_name(path)

    def exists(self, path: str) -> bool:
        """Say whether the host has *path*."""
        return (self.root / path.lstrip("/")).exists()

    def run(self, *words: str) -> Result:
        """Run a tool of the host: ``run("modprobe", "-r", "nouveau")``."""
        answer = self.ask({"run": list(words), "cwd": "/"})
        return Result(answer["rc"], answer["stdout"], answer["stderr"])

    def hold(self, what: str, name: str = "qemu-system-x86") -> int:
        """Start a process called *name* that has a device (by address) or a module open; return its pid."""
        return int(self._ask_or_raise({"hold": what, "name": name}, what)["pid"])

    def release(self, pid: int) -> None:
        """End a process that `hold` started."""
        self._ask_or_raise({"release": pid}, str(pid))

    def reboot(self) -> None:
        """Reboot; returns when the host is up. Raises: RuntimeError where it cannot boot."""
        result = self.run("reboot")
        if result.rc:
            message = f"{self.name} does not boot: {result.stderr}"
            raise RuntimeError(message)


class SimulatedHosts(Mapping[str, SimulatedHost]):
    """Hosts by name, up while the context lasts.

    Trees that are already in *folder* are used as they are: leave the context, enter it again, and the hosts go on.
    """

    def __init__(self, folder: Path, machines: Sequence[Machine]) -> None:
        self.folder = folder
        self._hosts = {machine.name: SimulatedHost(machine, folder / machine.name) for machine in machines}

    def __enter__(self) -> Self:
        try:
            for host in self._hosts.values():
                if not (host.root / "run").exists():
                    write_tree(host.machine, host.root)
                host._launch()  # noqa: SLF001 -- all start, then all are waited for
            for host in self._hosts.values():
                host._wait_until_ready()  # noqa: SLF001 -- see above
            self._write_inventory()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; the trees stay."""
        for host in self._hosts.values():
            host.power_off()

    def __getitem__(self, name: str) -> SimulatedHost:
        return self._hosts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    @property
    def inventory_path(self) -> Path:
        """Return the file that holds the inventory."""
        return self.folder / "inventory.yml"

    def inventory(self) -> str:
        """Return an Ansible inventory of the hosts, as YAML (JSON is YAML too).

        A host that is off has an address where nobody listens: for Ansible it is unreachable, as a real one would be.
        """
        groups: dict[str, dict[str, Any]] = {}
        for host in self._hosts.values():
            for group in host.machine.groups or ("ungrouped",):
                groups.setdefault(group, {"hosts": {}})["hosts"][host.name] = {}
        hosts = {name: self._variables(host) for name, host in self._hosts.items()}
        return json.dumps({"all": {"hosts": hosts, "children": groups}}, indent=2) + "\n"

    def _variables(self, host: SimulatedHost) -> dict[str, Any]:
        variables: dict[str, Any] = {"cyborg_root": str(host.root), "cyborg_labels": dict(host.machine.labels)}
        if host.pid is None:
            return variables | {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": CLOSED_PORT}
        return variables | {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
        }

    def _write_inventory(self) -> None:
        self.inventory_path.write_text(self.inventory(), encoding="utf-8")

    def power_off(self, name: str) -> None:
        """Switch a host off: it is unreachable with the next use of the inventory."""
        self._hosts[name].power_off()
        self._write_inventory()

    def power_on(self, name: str) -> None:
        """Switch a host on again: it boots."""
        host = self._hosts[name]
        host.power_on()
        host.reboot()
        self._write_inventory()

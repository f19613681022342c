# SPDX-License-Identifier: Apache-2.0
"""systemctl, udevadm, uname, hostname and mokutil of a simulated host. Listed in `tools`. Does I/O on the tree.

Source: systemctl(1), udevadm(8), uname(1).
"""

from cyborg_reconciler.simulation import udev
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.result import Result, split_options

WANTS = "/etc/systemd/system/multi-user.target.wants"
NOT_FOUND, NOT_ACTIVE = 5, 3


def systemctl(kernel: Kernel, words: list[str]) -> Result:
    """Start, stop, enable or ask about units; ``daemon-reload`` has nothing to do."""
    options, rest = split_options(words)
    verb, *units = rest or [""]
    if verb in {"daemon-reload", "reset-failed", "daemon-reexec", ""}:
        return Result()
    if verb == "reboot":
        kernel.boot()
        return Result()
    results = [_serve(kernel, verb, with_suffix(unit), start="--now" in options) for unit in units]
    worst = next((result for result in results if result.rc), Result())
    return Result(worst.rc, "".join(each.stdout for each in results), "".join(each.stderr for each in results))


def with_suffix(unit: str) -> str:
    """Return *unit* with the suffix that is meant where none is given."""
    return unit if unit.endswith((".service", ".target", ".path", ".timer")) else f"{unit}.service"


def _serve(kernel: Kernel, verb: str, unit: str, *, start: bool) -> Result:
    if udev.read_unit(kernel.tree, unit) is None and verb not in {"is-active", "is-enabled"}:
        return Result(NOT_FOUND, stderr=f"Failed to {verb} {unit}: Unit {unit} not found.\n")
    if verb in {"start", "restart", "reload-or-restart"}:
        return _start(kernel, unit)
    if verb in {"enable", "disable"}:
        return _enable(kernel, unit, on=verb == "enable", start=start)
    if verb == "is-enabled":
        enabled = kernel.tree.exists(f"{WANTS}/{unit}")
        return Result(0 if enabled else 1, "enabled\n" if enabled else "disabled\n")
    status, output = (kernel.tree.state("units") or {}).get(unit, [None, ""])
    if verb in {"is-active", "is-failed", "status", "show"}:
        word = {None: "inactive", 0: "active"}.get(status, "failed")
        text = f"{unit}: {word}\n{output}\n" if verb == "status" else f"{word}\n"
        return Result(0 if status == 0 else NOT_ACTIVE, text)
    with kernel.lock:
        units = {name: each for name, each in (kernel.tree.state("units") or {}).items() if name != unit}
        kernel.tree.keep("units", units)
    return Result()


def _start(kernel: Kernel, unit: str) -> Result:
    kernel.run_units([unit])
    status, output = (kernel.tree.state("units") or {})[unit]
    if status == 0:
        return Result()
    hint = f'See "systemctl status {unit}" for details.'
    return Result(
        1, stderr=f"Job for {unit} failed because the control process exited with error code.\n{hint}\n{output}"
    )


def _enable(kernel: Kernel, unit: str, *, on: bool, start: bool) -> Result:
    with kernel.lock:
        kernel.tree.remove(f"{WANTS}/{unit}")
        file = udev.unit_file(kernel.tree, unit)
        if on and file:
            kernel.tree.link(f"{WANTS}/{unit}", file)
    return _start(kernel, unit) if on and start else Result()


def udevadm(kernel: Kernel, words: list[str]) -> Result:
    """``settle`` waits for units that events started; ``trigger`` sends the devices' events again."""
    verb, rest = (words or [""])[0], words[1:]
    if verb == "settle":
        kernel.wait_for_units()
    elif verb == "trigger":
        options, _ = split_options(rest, ("-c", "--action", "-s", "--subsystem-match", "--sysname-match", "-y"))
        action = options.get("-c") or options.get("--action") or "change"
        wanted = options.get("--sysname-match") or options.get("-y")
        with kernel.lock:
            addresses = [each for each in kernel.pci.addresses() if wanted in {None, each}]
            kernel.pci.events += [(action, address) for address in addresses]
            units = kernel.settle()
        kernel.start_units(units)
    elif verb not in {"control", "info", "version"}:
        return Result(1, stderr=f"udevadm: unknown command {verb}\n")
    return Result()


def uname(kernel: Kernel, words: list[str]) -> Result:
    """Print the kernel's release, the architecture or the host's name."""
    answers = {"-r": kernel.drivers.release(), "-m": "x86_64", "-n": kernel.machine.name, "-s": "Linux"}
    return Result(stdout=" ".join(answers.get(word, "Linux") for word in words or ["-s"]) + "\n")


def hostname(kernel: Kernel, _words: list[str]) -> Result:
    """Print the host's name."""
    return Result(stdout=f"{kernel.machine.name}\n")


def mokutil(kernel: Kernel, words: list[str]) -> Result:
    """Say whether Secure Boot is on."""
    if words != ["--sb-state"]:
        return Result(1, stderr="mokutil: only --sb-state is simulated\n")
    if kernel.machine.secure_boot is None:
        return Result(255, stderr="EFI variables are not supported on this system\n")
    return Result(stdout=f"SecureBoot {'enabled' if kernel.machine.secure_boot else 'disabled'}\n")

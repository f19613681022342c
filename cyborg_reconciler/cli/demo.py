# SPDX-License-Identifier: Apache-2.0
"""`demo`: three simulated hosts, and the main job on them: validate, plan, apply, break, see the drift, correct it."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import click

from cyborg_reconciler.cli import apply, plan, status, validate
from cyborg_reconciler.cli.common import CHANGES, DONE, FAILED, console
from cyborg_reconciler.settings import PREFIX, read_settings
from cyborg_reconciler.simulation.hosts import SimulatedHosts
from cyborg_reconciler.simulation.samples import demo_machines

#: What the demo breaks by hand.
BROKEN_PF = "/sys/bus/pci/devices/0000:ca:00.1/sriov_numvfs"


@click.command(short_help="The main job on three simulated hosts.")
@click.option("--keep", is_flag=True, help="Leave the hosts' files where they are, and say where.")
@click.option("--wait", is_flag=True, help="Keep the hosts up at the end until Enter is pressed, to go on by hand.")
def demo(*, keep: bool, wait: bool) -> int:
    """Show the main job on three simulated hosts: no root, no network, no hardware.

    The hosts are folder trees after the kernel's documentation, each with a process that plays its kernel. Everything
    else is real: the collection, ansible-runner, the journal, and the commands that you would type.

    \b
    Example:
      cyborg-reconciler demo --keep
    """
    with (
        own_journal() as prefix,
        _folder(keep=keep) as folder,
        SimulatedHosts(folder / "hosts", demo_machines()) as hosts,
    ):
        policies = folder / "policies"
        policies.mkdir()
        (policies / "demo.yml").write_bytes(files(__package__).joinpath("demo_policies.yml").read_bytes())
        to = ["-i", str(hosts.inventory_path), "-p", str(policies), "--state", str(folder / "state")]
        _say("Three hosts are up: gpu-1 (a GPU), qat-1 (a QAT card), nic-1 (an SR-IOV NIC and NVMe).")
        _say("1. What shall be is declared in YAML. Is it valid?")
        results = [_type(validate.validate, [str(policies)], DONE)]
        _say("2. What would be done? (exit code 2 means: something)")
        results.append(_type(plan.plan, to, CHANGES))
        _say("3. Do it. Each host is looked at again afterwards; that, not a return code, is success.")
        results.append(_type(apply.apply, [*to, "--yes"], DONE))
        _say("4. Somebody takes the VFs of a NIC away by hand.")
        console().print(f"nic-1# echo 0 > {BROKEN_PF}", style="bold")
        hosts["nic-1"].write(BROKEN_PF, 0)
        _say("5. The drift shows.")
        results.append(_type(plan.plan, to, CHANGES))
        _say("6. And is corrected, without touching what is in order.")
        results.append(_type(apply.apply, [*to, "--yes"], DONE))
        results.append(_type(status.status, ["--state", str(folder / "state")], DONE))
        count = hosts["nic-1"].read(BROKEN_PF)
        console().print(f"nic-1# cat {BROKEN_PF}", style="bold")
        console().print(count)
        if all(results) and count == "4":
            _say("The hosts are as declared. Next: docs/tutorial.md, and your own inventory: -i PATH.")
            if wait:
                _say("The hosts stay up until you press Enter. In another terminal:")
                words = "cyborg-reconciler plan -i hosts/inventory.yml -p policies --state state"
                console().print(f"cd {folder}\n{prefix}{words}")
                sys.stdin.readline()
            return DONE
    _say("Something above is not as it should be; please report it, with the output.")
    return FAILED


@contextmanager
def own_journal() -> Iterator[str]:
    """Keep the journal in the state folder, also where the settings name a database: it is no place for such hosts.

    Yields what has to stand before a command that is typed elsewhere.
    """
    prefix = f"{PREFIX}DATABASE= " if read_settings().database else ""
    before = dict(os.environ)
    os.environ[f"{PREFIX}DATABASE"] = ""
    try:
        yield prefix
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """Yield a folder for the demo; its path is short, since sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="cyborg-demo-"))
    try:
        yield folder
    finally:
        if keep:
            console().print(f"The hosts, the policies and the state are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _say(words: str) -> None:
    console().print(f"\n{words}", style="bold cyan")


def _type(command: click.Command, arguments: list[str], wanted: int) -> bool:
    """Run a command as a user would type it, and return whether it exited as *wanted*."""
    console().print(f"$ cyborg-reconciler {command.name} {' '.join(arguments)}", style="bold")
    code = command.main(args=arguments, prog_name=f"cyborg-reconciler {command.name}", standalone_mode=False)
    return bool(code == wanted)

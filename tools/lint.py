# SPDX-License-Identifier: Apache-2.0
"""Do all the gates hold? Run by `make lint`, or by hand with the names of the gates that are wanted.

Runs each gate as a process of its own, shows the output of those that fail, and ends with one line a gate and the
seconds that it took. Reads the checkout; writes only what the gates write (caches, the collection's tests/output).
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = ROOT / "collections/ansible_collections/openstack/cyborg"
#: The environment's own programs come first, however this script was started.
TOOLS_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
#: ansible-test installs what each of its tests pins; what pip says of that would bury what the tests say.
QUIET_PIP = {"PIP_QUIET": "1"}
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Gate:
    """One command that must end with 0.

    Attributes:
        name: what to call it by on the command line.
        command: argument list; programs are those of the environment.
        folder: where it runs.
        environment: added to the process's own.
    """

    name: str
    command: tuple[str, ...]
    folder: Path = ROOT
    environment: dict[str, str] = field(default_factory=dict)


def tool(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of one of our own scripts."""
    return (sys.executable, str(ROOT / "tools" / name), *arguments)


#: Quick ones first: most mistakes are found within seconds.
GATES = (
    Gate("ruff", ("ruff", "check", "--quiet", ".")),
    Gate("format", ("ruff", "format", "--check", "--quiet", ".")),
    Gate("house", tool("house.py")),
    Gate("galaxy", tool("galaxy.py", "compare")),
    Gate("docs", (sys.executable, "-m", "docs.generate", "--check")),
    Gate("imports", ("lint-imports", "--no-logo")),
    Gate("mypy", ("mypy",)),
    Gate("yamllint", ("yamllint", "--strict", ".")),
    Gate("changelog", ("antsibull-changelog", "lint"), COLLECTION),
    Gate(
        "plugin-docs", ("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", "."), COLLECTION
    ),
    Gate("ansible-lint", ("ansible-lint", "--offline", "--strict", "-q")),
    Gate(
        "sanity",
        tool("pip_bootstrap.py", "sanity", "--venv", "--python", PYTHON, "--color", "no"),
        COLLECTION,
        QUIET_PIP,
    ),
    Gate(
        "units", tool("pip_bootstrap.py", "units", "--venv", "--python", PYTHON, "--color", "no"), COLLECTION, QUIET_PIP
    ),
    Gate("targets", tool("targets.py")),
    Gate("importer", tool("galaxy.py", "import")),
)


def run(gate: Gate) -> tuple[bool, float]:
    """Run one gate and return whether it holds, and the seconds that it took."""
    started_s = time.monotonic()
    print(f"{gate.name:14}", end="", flush=True)
    done = subprocess.run(
        gate.command,
        cwd=gate.folder,
        env={**os.environ, "NO_COLOR": "1", "PATH": TOOLS_PATH, **gate.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    took_s = time.monotonic() - started_s
    holds = done.returncode == 0
    print(f"{'holds' if holds else 'FAILS':6}{took_s:7.1f} s", flush=True)
    if not holds:
        print(f"\n$ {' '.join(gate.command)}    (in {gate.folder.relative_to(ROOT)}/)\n{done.stdout}", flush=True)
    return holds, took_s


def main(names: list[str]) -> int:
    """Run the gates that are named, or all; return 0 when every one holds."""
    unknown = set(names) - {gate.name for gate in GATES}
    if unknown:
        print(f"no such gate: {', '.join(sorted(unknown))}; there are {', '.join(gate.name for gate in GATES)}")
        return 2
    chosen = [gate for gate in GATES if not names or gate.name in names]
    results = {gate.name: run(gate) for gate in chosen}
    failed = [name for name, (holds, _) in results.items() if not holds]
    total_s = sum(took_s for _, took_s in results.values())
    verdict = (
        f"{len(failed)} of {len(chosen)} gates fail: {', '.join(failed)}" if failed else f"{len(chosen)} gates hold"
    )
    print(f"{verdict} ({total_s:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

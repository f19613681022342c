# SPDX-License-Identifier: Apache-2.0
"""Which releases does the environment hold? Run by `make constraints`; writes constraints.txt.

Only names and versions are written: no address of an index, no local path, not this project itself.
"""

import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "constraints.txt"
HEADER = """\
# The releases that development and CI use, so that a checkout of any day sets up the same tools.
# Users are not held to them: pyproject.toml names ranges. Renewed by `make constraints`.
"""


def parse_pins(frozen: str) -> list[str]:
    """Return the ``name==version`` lines of what ``pip freeze`` printed.

    Raises:
        ValueError: something was installed from an address or a path, which a constraint cannot say for others.
    """
    pins = []
    for line in frozen.splitlines():
        if "@" in line or line.startswith("-"):
            message = f"{line}: install it by name and version first"
            raise ValueError(message)
        if not line.startswith("#"):
            pins.append(line)
    return pins


def main() -> None:
    """Write constraints.txt."""
    left_out = ("pip", "wheel", "cyborg-reconciler")
    freeze = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable"]
    freeze += [argument for name in left_out for argument in ("--exclude", name)]
    frozen = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
    TARGET.write_text(HEADER + "".join(f"{pin}\n" for pin in parse_pins(frozen)))


if __name__ == "__main__":
    main()

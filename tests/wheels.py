# SPDX-License-Identifier: Apache-2.0
"""The project's wheel, and those of the libraries that the agent needs beside it. Used by tests; runs pip and build."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("cyborg_reconciler", "api", "collections", "pyproject.toml", "README.md", "LICENSE")


def build_wheel(folder: Path) -> Path:
    """Return the wheel, built in *folder* from a copy, so that nothing that an earlier build left gets into it."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("output"))
        else:
            shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist")]
    subprocess.run([*command, str(folder)], check=True, capture_output=True, text=True)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def agent_libraries() -> list[str]:
    """Return what the wheel's extra `agent` asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["optional-dependencies"]["agent"])


def download_agent_libraries(folder: Path, python: str) -> Path:
    """Return *folder*, filled with the wheels of pip and of the agent's libraries for hosts with *python*, as 3.11."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "--only-binary", ":all:"]
    command += ["--python-version", python, "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*command, "pip", *agent_libraries()], check=True, capture_output=True, text=True)
    return folder

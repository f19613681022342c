# SPDX-License-Identifier: Apache-2.0
"""Does make say in one line what a machine is missing, and do the tests leave nothing behind?

Runs the Makefile with stand-ins for python3; no network.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.integration.api_support import until
from tools.scratch import PREFIX, find_scratch, workers_in

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stand_in(tmp_path):
    """A python3 that fails whenever its arguments hold a word, and is the real one else."""

    def write(word):
        program = tmp_path / "python3"
        program.write_text(f'#!/bin/sh\ncase "$*" in *"{word}"*) exit 1;; esac\nexec "{sys.executable}" "$@"\n')
        program.chmod(0o755)
        return program

    return write


def make(tmp_path, python, target="setup"):
    command = ["make", "--no-print-directory", target, f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("target", ["setup", "demo", "test"])
def test_a_missing_venv_module_is_named_with_what_to_install(tmp_path, stand_in, target):
    done = make(tmp_path, stand_in("ensurepip"), target)
    assert done.returncode != 0
    assert (
        done.stdout == "python3-venv is missing: install it (Debian: apt install python3-venv), then run make again\n"
    )
    assert not (tmp_path / "venv").exists()


def test_a_missing_python_is_named(tmp_path):
    done = make(tmp_path, tmp_path / "no-python3")
    assert done.returncode != 0
    assert done.stdout.startswith("python3 is missing: install it")


def test_an_old_python_is_named(tmp_path, stand_in):
    done = make(tmp_path, stand_in("version_info"))
    assert done.returncode != 0
    assert "and 3.11 or newer is needed" in done.stdout


def test_make_alone_lists_every_target(tmp_path):
    done = make(tmp_path, sys.executable, target="help")
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    assert {"demo", "test", "long", "lint", "lab", "bench", "docs", "clean"} <= listed


def test_files_of_tests_lie_in_memory_where_there_is_room_and_elsewhere_otherwise(tmp_path):
    assert find_scratch({"TMPDIR": "/elsewhere"}, tmp_path, 0) == "/elsewhere"
    assert find_scratch({}, tmp_path, 0) == str(tmp_path)
    assert find_scratch({}, tmp_path, 1 << 62) == tempfile.gettempdir()
    assert find_scratch({}, tmp_path / "missing", 0) == tempfile.gettempdir()
    assert find_scratch({}, Path("/proc"), 1) == tempfile.gettempdir()  # nothing can lie there


#: Leaves all kinds of things behind, and fails, or waits to be killed.
RUN = """
import os, subprocess, sys, tempfile, time
from pathlib import Path
from tools.scratch import scratch

with scratch() as folder:
    assert tempfile.mkdtemp().startswith(f"{folder}/")
    assert folder.stat().st_mode & 0o777 == 0o711
    (folder / "closed/deep").mkdir(parents=True)
    (folder / "closed/deep/link").symlink_to(sys.argv[1])
    (folder / "closed").chmod(0)
    (folder / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", folder / "disk"], check=False, stderr=subprocess.DEVNULL)
    (folder / "disk/file").touch()
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(left.pid, folder, flush=True)
    {end}
"""


@pytest.mark.parametrize("end", ["raise SystemExit(1)", "time.sleep(600)"])
def test_a_run_of_the_tests_leaves_nothing_behind_when_it_fails_and_when_it_is_killed(tmp_path, end):
    place, other = tmp_path / "place", tmp_path / "other"
    place.mkdir()
    (other / "kept").mkdir(parents=True)
    command = [sys.executable, "-c", RUN.replace("{end}", end), str(other)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(place)}, stdout=subprocess.PIPE) as run:
        pid, folder = run.stdout.readline().decode().split()
        assert Path(folder).parent == place
        if "sleep" in end:
            run.kill()
        run.wait()
    until(lambda: not list(place.iterdir()))
    assert int(pid) not in workers_in(Path(folder))
    assert list(other.iterdir()) == [other / "kept"]  # links are not followed


def test_this_very_run_keeps_its_files_in_a_folder_that_goes_with_it(tmp_path, request):
    place = Path(os.environ["TMPDIR"])
    assert place.name.startswith(PREFIX)
    assert tempfile.gettempdir() == str(place)
    assert tmp_path.is_relative_to(request.config.option.basetemp)

# SPDX-License-Identifier: Apache-2.0
"""What does the lab say, and what does it leave behind, where it cannot run or is killed?"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.place import PROJECT, lab_folder, remove_orphans

START_A_GUEST = """
import sys, time
from tests.lab.image import provide_image
from tests.lab.machine import Boot
from tests.lab.snapshot import provide_snapshot
guest = provide_snapshot(provide_image(), Boot.KERNEL).start("orphan")
print(guest.process_id, guest.console.parent, flush=True)
time.sleep(600)
"""


def test_where_qemu_is_missing_the_lab_says_what_to_install_and_fails(tmp_path):
    (tmp_path / "bin").mkdir()
    environment = {**os.environ, "PATH": str(tmp_path / "bin"), "LAB_DIR": str(tmp_path / "lab")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.image"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("lab: the lab cannot run here: missing: ")
    assert "qemu-system-x86" in done.stderr
    assert "mmdebstrap" in done.stderr
    assert "sudo tests/lab/install.sh" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_guest_dies_with_the_process_that_started_it_and_leaves_nothing(image):
    owner = subprocess.Popen([sys.executable, "-c", START_A_GUEST], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    with owner:
        process_id, folder = owner.stdout.readline().split()
        assert "orphan" in Path(f"/proc/{process_id}/cmdline").read_text()
        owner.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 60
    while Path(f"/proc/{process_id}/fd").is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{process_id}/fd").is_dir()
    assert Path(folder).parent == lab_folder() / "guests"
    remove_orphans()
    assert not Path(folder).exists()

# SPDX-License-Identifier: Apache-2.0
"""The demo: what everybody runs first ends well, says so, and leaves nothing behind."""

import os
import re
import tempfile
from pathlib import Path

import pytest

from tests.integration.console import call

#: The folder of one demo: others may run on this machine at the same time.
FOLDER = re.compile(re.escape(tempfile.gettempdir()) + r"/cyborg-demo-[^/ ]+")


@pytest.mark.slow
def test_the_demo_shows_a_plan_its_apply_a_drift_and_its_correction():
    already = children()
    shown = call("demo")
    assert shown.code == 0, shown.output + shown.errors
    said = [line for line in shown.output.splitlines() if line]
    assert said[-1].startswith("The hosts are as declared.")
    assert [line.split()[2] for line in said if line.startswith("$ ")] == [
        *("validate", "plan", "apply", "plan", "apply", "status"),
    ]
    assert sum("drift" in line and "sriov.num_vfs" in line for line in said) == 2, "in the plan, and in the apply"
    assert "\x1b" not in shown.output
    (folder,) = {Path(found) for found in FOLDER.findall(shown.output)}
    assert not folder.exists()
    assert children() == already, "no process of it is left"


def children():
    """Return the processes whose parent is this one."""
    return {int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}

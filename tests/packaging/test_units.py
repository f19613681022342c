# SPDX-License-Identifier: Apache-2.0
"""Are the units of the control plane such that systemd takes them, and our own commands what they start?"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cyborg_reconciler.cli.main import cli
from cyborg_reconciler.settings import PREFIX, read_settings
from tests.needs import missing

UNITS = sorted((Path(__file__).parents[2] / "docs/operations/units").glob("*.service"))
BINARY = "/opt/cyborg-reconciler/bin/cyborg-reconciler"
MISSING = "there is no systemd here: its tool that checks units is in Debian's package systemd"


def read(unit):
    """The text of a unit, with lines that go on in the next one in one."""
    return unit.read_text(encoding="utf-8").replace("\\\n", " ")


def test_there_is_one_for_each_process():
    assert [unit.name for unit in UNITS] == ["cyborg-api.service", "cyborg-conductor.service", "cyborg-worker.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_it(unit, tmp_path):
    if not shutil.which("systemd-analyze"):
        missing("systemd", MISSING)
    (tmp_path / unit.name).write_text(unit.read_text(encoding="utf-8").replace(BINARY, "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / unit.name],  # noqa: S607 - on PATH
        capture_output=True,
        text=True,
        check=False,
    )
    assert unit.name not in done.stderr, done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_it_starts_is_a_command_of_ours_with_options_that_it_has(unit):
    (line,) = re.findall(r"^ExecStart=(.*)$", read(unit), re.MULTILINE)
    binary, name, *words = line.split()
    assert binary == BINARY
    known = {option for one in cli.commands[name].params for option in one.opts}
    assert {word for word in words if word.startswith("--")} <= known
    cli.commands[name].make_context(name, [word.replace("${CYBORG_BIND}", "127.0.0.1:1") for word in words])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_settings_that_it_gives_are_known(unit, tmp_path):
    given = dict(re.findall(rf"^Environment=({PREFIX}\w+)=(.*)$", read(unit), re.MULTILINE))
    assert given == {f"{PREFIX}CONFIG": "/etc/cyborg/config.toml"}
    page = (unit.parents[2] / "how-to/run-several.md").read_text(encoding="utf-8")
    (tmp_path / "config.toml").write_text(re.search(r"config.toml\n(.*?)```", page, re.DOTALL)[1], encoding="utf-8")
    settings = read_settings({f"{PREFIX}CONFIG": str(tmp_path / "config.toml")})
    assert settings.database.startswith("postgresql://")
    assert unit.name in page

# SPDX-License-Identifier: Apache-2.0
"""Are the pins what any machine can use? Reads constraints.txt and pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest

from tools import constraints

ROOT = Path(__file__).resolve().parents[2]
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def canonical(name):
    """The name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_constraint_is_a_name_and_a_release_and_nothing_else():
    assert [pin for pin in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", pin)] == []


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    wanted = {canonical(re.split(r"[<>=!~\[; ]", dependency, maxsplit=1)[0]) for dependency in named}
    assert wanted - {canonical(pin.partition("==")[0]) for pin in PINS} == set()


@pytest.mark.parametrize(
    "line", ["thing @ file:///home/me/thing", "-e git+ssh://host/thing#egg=thing", "a @ https://host/a.whl"]
)
def test_what_was_installed_from_an_address_is_refused(line):
    with pytest.raises(ValueError, match="install it by name and version first"):
        constraints.parse_pins(f"alembic==1.0\n{line}\n")


def test_pins_are_taken_as_they_are():
    assert constraints.parse_pins("# comment\nalembic==1.0\nclick==8.0\n") == ["alembic==1.0", "click==8.0"]

# SPDX-License-Identifier: Apache-2.0
"""Does the wheel carry what a user needs and nothing else? Builds it from a copy and installs it; no network."""

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cyborg_reconciler.simulation import gpu_1, write_tree
from tests.integration.agent_support import AgentProcess
from tests.integration.fake_conductor import FakeConductor
from tests.wheels import ROOT, agent_libraries, build_wheel
from tools import galaxy

COLLECTION = Path("ansible_collections/openstack/cyborg")

pytestmark = pytest.mark.slow


def files_below(folder, top):
    """The files that users are to get from *folder*, named as the wheel names them."""
    found = {path.relative_to(folder) for path in (folder / top).rglob("*") if path.is_file()}
    return {
        path.as_posix()
        for path in found
        if path.suffix != ".pyc"
        and path.parts[3:4] != ("tests",)
        and not any(part.startswith(".") for part in path.parts)
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize(("folder", "package"), [(".", "cyborg_reconciler"), ("api", "cyborg_reconciler_api")])
def test_the_wheel_carries_every_file_of_the_controller_and_of_the_api(names, folder, package):
    files = files_below(ROOT / folder, package)
    assert f"{package}/py.typed" in files
    assert {name for name in names if name.startswith(f"{package}/")} == files


def test_the_wheel_carries_every_file_of_the_collection_but_its_tests(names):
    collection = files_below(ROOT / "collections", COLLECTION)
    assert f"{COLLECTION}/meta/runtime.yml" in collection
    assert {name for name in names if name.startswith("ansible_collections/")} == collection


def test_the_wheel_carries_nothing_else(names):
    assert {name.partition("/")[0] for name in names} == {
        "ansible_collections",
        "cyborg_reconciler",
        "cyborg_reconciler-0.1.0.dist-info",
        "cyborg_reconciler_api",
    }


def test_the_wheel_says_its_licences_and_its_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        information = next(name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(information).decode())
        commands = archive.read(information.replace("METADATA", "entry_points.txt")).decode()
    assert metadata["License-Expression"] == "Apache-2.0 AND GPL-3.0-or-later AND BSD-2-Clause"
    assert metadata.get_all("License-File") == ["LICENSE", f"collections/{COLLECTION}/LICENSE"]
    assert "cyborg-reconciler = cyborg_reconciler.cli:main" in commands


def test_an_installed_wheel_brings_its_collection_to_ansible(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True)
    done = subprocess.run(
        [galaxy.program("ansible-galaxy"), "collection", "list", "openstack.cyborg"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert f"# {site}/ansible_collections" in done.stdout


def closure(names):
    """The distributions that *names* need, themselves included, as this environment has them."""
    found, left = {}, list(names)
    while left:
        requirement = Requirement(left.pop())
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in found:
            distribution = importlib.metadata.distribution(name)
            found[name] = distribution
            left += distribution.requires or ()
    return found


@pytest.fixture(scope="module")
def small_install(wheel, tmp_path_factory):
    """An environment of the wheel, without its dependencies, and the agent's few libraries; nothing is fetched."""
    place = tmp_path_factory.mktemp("small")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    (site,) = place.glob("lib/python3*/site-packages")
    libraries = closure(agent_libraries())
    assert len(libraries) < 10, sorted(libraries)  # a small install is small
    for distribution in libraries.values():
        for file in distribution.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(distribution.locate_file(file), target)
    return place / "bin/cyborg-reconciler"


def test_the_agent_runs_with_the_wheel_and_its_few_libraries_alone(small_install, tmp_path):
    write_tree(gpu_1(), tmp_path / "gpu-1")
    with FakeConductor(host="gpu-1") as conductor:
        made = AgentProcess.make(tmp_path / "agent", conductor, tmp_path / "gpu-1", dummy_devices=1)
        with made.start([str(small_install)]) as agent:
            conductor.wait_for(lambda: conductor.check_ins(facts=False))
            assert conductor.check_ins()[0]["facts"]["hostname"] == "gpu-1"
            assert len(agent.ask("GET", "/drivers/dummy/hardware").json["hardware"]) == 1


def test_the_small_install_says_what_it_is_not_for(small_install, tmp_path):
    def said(*words):
        done = subprocess.run([small_install, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    code, text = said("--help")
    assert code == 0
    assert "agent" in text
    assert "validate" not in text
    code, text = said("plan", "-p", "policies")
    assert code == 1
    assert text.startswith("error: `plan` needs the controller's libraries")
    assert said("agent", "--config", "gone.toml")[0] == 1


def test_project_and_collection_carry_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert galaxy.read_metadata(galaxy.COLLECTION)["version"] == project["version"]

# SPDX-License-Identifier: Apache-2.0
"""Is the collection whole, wherever it is built? Builds and installs it from both places, without a network."""

import hashlib
import subprocess

import pytest
import yaml

from tools import galaxy

ROOT = galaxy.ROOT
COLLECTION = galaxy.COLLECTION
#: What the root links into the collection.
LINKS = ("changelogs", "meta", "playbooks", "plugins", "roles")


def module_names():
    return sorted(path.stem for path in (COLLECTION / "plugins/modules").glob("*.py"))


def digests(folder):
    """What the files are that Ansible reads from an installed collection: path → digest, links followed."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for link in LINKS
        for path in (folder / link).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The collection, built in its own folder and at the root, and installed: where each lies."""

    def install(folder, name):
        into = tmp_path_factory.mktemp(name)
        tarball = galaxy.build(folder, into)
        # --force: an editable install counts as installed.
        command = [galaxy.program("ansible-galaxy"), "collection", "install", "--offline", "--force", "-p", str(into)]
        subprocess.run([*command, str(tarball)], check=True, capture_output=True, text=True)
        return into / "ansible_collections/openstack/cyborg"

    return {"own folder": install(COLLECTION, "own"), "root": install(ROOT, "root")}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["own folder", "root"])
def test_a_build_holds_what_the_checkout_holds(installed, place):
    held = digests(installed[place])
    assert held == digests(COLLECTION)
    assert {f"plugins/modules/{name}.py" for name in module_names()} <= held.keys()


@pytest.mark.slow
def test_a_build_at_the_root_holds_no_controller(installed):
    found = {path.name for path in installed["root"].iterdir()}
    papers = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "FILES.json", "MANIFEST.json", "galaxy.yml"}
    assert found - papers == {*LINKS, "collections"}


def test_the_links_at_the_root_point_into_the_collection():
    assert {name: (ROOT / name).resolve() for name in LINKS} == {name: COLLECTION / name for name in LINKS}
    assert all((ROOT / name).is_symlink() for name in LINKS)


def test_both_galaxy_files_say_the_same():
    assert galaxy.differences(galaxy.read_metadata(ROOT), galaxy.read_metadata(COLLECTION)) == []


def test_a_difference_between_galaxy_files_is_named():
    assert galaxy.differences({"version": "1", "name": "a"}, {"version": "2", "name": "a", "tags": []}) == [
        "tags",
        "version",
    ]


def test_every_module_is_in_the_action_group_and_in_the_readme():
    modules = module_names()
    runtime = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text())
    assert set(modules) <= set(runtime["action_groups"]["cyborg"])
    readme = (COLLECTION / "README.md").read_text()
    assert [name for name in modules if f"`openstack.cyborg.{name}`" not in readme] == []


def test_every_role_and_playbook_is_in_the_readme():
    readme = (COLLECTION / "README.md").read_text()
    roles = [f"role `openstack.cyborg.{path.name}`" for path in (COLLECTION / "roles").iterdir()]
    playbooks = [f"playbook `openstack.cyborg.{path.stem}`" for path in (COLLECTION / "playbooks").glob("*.yml")]
    assert [name for name in roles + playbooks if name not in readme] == []

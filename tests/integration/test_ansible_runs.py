# SPDX-License-Identifier: Apache-2.0
"""Real runs of ansible-runner on hosts with a local connection: what is told apart, and what is left behind."""

import os
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from cyborg_reconciler.adapters.ansible.environment import MARKER, run_environment
from cyborg_reconciler.adapters.ansible.executor import AnsibleExecutor
from cyborg_reconciler.adapters.ansible.inventory import AnsibleInventory
from cyborg_reconciler.adapters.ansible.observer import AnsibleObserver
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.documents.facts import Device, Drivers, Facts, KernelFacts
from cyborg_reconciler.errors import ExecutionError
from cyborg_reconciler.ports import Observation, Progress, Unobserved
from cyborg_reconciler.testing import FixedClock, ignore_progress
from tests.integration.ansible_support import (
    CLOSED,
    LOCAL,
    SECRET,
    SLEEP,
    make_options,
    make_plan,
    make_root,
    marked,
    observe,
    write_playbook,
)


def test_unreachable_failed_and_observed_hosts_are_told_apart_and_the_run_is_kept_without_secrets(
    tmp_path: Path,
) -> None:
    bare = {**LOCAL, "ansible_python_interpreter": "/nonexistent/python3", "password": SECRET}
    options = make_options(tmp_path, {"good": LOCAL, "closed": CLOSED, "bare": bare})
    story: list[Progress] = []
    found = observe(options, story.append)
    assert isinstance(found["good"], Observation)
    assert found["good"].facts.kernel.release == os.uname().release
    assert isinstance(found["closed"], Unobserved)
    assert (found["closed"].reason, "Connection refused" in found["closed"].message) == ("Unreachable", True)
    assert isinstance(found["bare"], Unobserved)
    assert (found["bare"].reason, "no Python" in found["bare"].message) == ("Failed", True)
    assert {(one.host, one.step, one.status) for one in story} == {
        *((host, "observe", "started") for host in ("good", "closed", "bare")),
        ("good", "observe", "ok"),
        ("closed", "observe", "unreachable"),
        ("bare", "observe", "failed"),
    }
    (folder,) = options.runs.iterdir()
    kept = {path.name: path for path in folder.rglob("*") if path.is_file()}
    assert {"ended", "ansible.stdout", "stderr"} <= kept.keys()
    assert "not found" in kept["ansible.stdout"].read_text()
    assert not [name for name, path in kept.items() if SECRET in path.read_text()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.values()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_while_a_run_goes_on_its_environment_is_on_no_disk(tmp_path: Path) -> None:
    options = make_options(
        tmp_path, {"good": LOCAL}, observe_playbook=write_playbook(tmp_path / "sleep.yml", SLEEP), grace_s=3.0
    )
    found: list[str] = []

    def look(progress: Progress) -> None:
        if progress.step == "Sleep in a module":
            (folder,) = options.runs.iterdir()
            files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
            found.extend(str(path) for path in files if SECRET.encode() in path.read_bytes())
            found.append("looked")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observe(options, look)
    assert found == ["looked"]
    assert marked(options) == {}


def test_our_own_variables_do_not_reach_ansible_and_the_users_do(tmp_path: Path) -> None:
    text = """
- name: Look
  hosts: all
  gather_facts: false
  tasks:
    - name: Look
      ansible.builtin.shell: env | sort >{{ out }}
"""
    out = tmp_path / "env"
    options = make_options(
        tmp_path, {"good": {**LOCAL, "out": str(out)}}, observe_playbook=write_playbook(tmp_path / "look.yml", text)
    )
    observe(options)
    seen = dict(line.split("=", 1) for line in out.read_text().splitlines() if "=" in line)
    assert "CYBORG_TOKEN" not in seen
    assert seen["CLOUD_PASSWORD"] == SECRET, "a dynamic inventory may need it"
    assert seen["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert MARKER in seen


@pytest.mark.parametrize(
    ("config", "environ", "checked"),
    [
        ("[defaults]\nhost_key_checking = False\n", {}, "False"),
        ("[defaults]\nhost_key_checking = False\n", {"ANSIBLE_HOST_KEY_CHECKING": "True"}, "True"),
        ("[defaults]\nforks = 3\n", {}, "True"),
        ("not an ini file", {}, "True"),
    ],
)
def test_host_keys_are_checked_unless_the_users_configuration_says_otherwise(
    tmp_path: Path, config: str, environ: dict[str, str], checked: str
) -> None:
    (tmp_path / "ansible.cfg").write_text(config)
    found = run_environment({"HOME": "/nowhere", **environ}, tmp_path, tmp_path / "run")
    assert found["ANSIBLE_HOST_KEY_CHECKING"] == checked
    assert found["ANSIBLE_CONFIG"] == str(tmp_path / "ansible.cfg")


def test_facts_of_many_devices_arrive_whole(tmp_path: Path) -> None:
    devices = [
        Device(address=f"{number:04x}:00:00.0", vendor_id="8086", product_id="4940", class_id="0b4000", slot="x" * 2000)
        for number in range(512)
    ]
    kernel = KernelFacts(release="6.1", architecture="x86_64", boot_id="b1")
    facts = Facts(
        facts_version=1,
        hostname="h",
        devices=devices,
        drivers=Drivers(modules=[]),
        kernel=kernel,
        fingerprint="f1",
    )
    (tmp_path / "facts.json").write_bytes(msgspec.json.encode({"cyborg_facts": facts}))
    text = """
- name: Say
  hosts: all
  gather_facts: false
  vars_files: [facts.json]
  tasks:
    - name: Say
      ansible.builtin.set_fact:
        cyborg_facts: "{{ cyborg_facts }}"
"""
    options = make_options(tmp_path, {"good": LOCAL}, observe_playbook=write_playbook(tmp_path / "say.yml", text))
    found = observe(options)["good"]
    assert isinstance(found, Observation), found
    assert len(found.document) > 1_000_000
    assert found.facts == facts


def test_a_host_that_the_playbook_leaves_out_is_missing(tmp_path: Path) -> None:
    text = "- name: One\n  hosts: good\n  gather_facts: false\n  tasks: [{name: P, ansible.builtin.ping: }]\n"
    options = make_options(
        tmp_path, {"good": LOCAL, "other": LOCAL}, observe_playbook=write_playbook(tmp_path / "one.yml", text)
    )
    found = observe(options)
    assert found["other"] == Unobserved("Missing", "the run ended without a word of this host")


def test_a_playbook_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    options = make_options(tmp_path, {"good": LOCAL}, observe_playbook="openstack.cyborg.nosuch")
    with pytest.raises(ExecutionError, match=r"openstack.cyborg.nosuch.*could not be found"):
        observe(options)


def test_a_child_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    options = make_options(tmp_path, {"good": LOCAL})
    hosts = AnsibleInventory(options).hosts()
    broken = make_options(tmp_path, {"good": LOCAL}, environ={"PYTHONHOME": "/nonexistent"})
    with pytest.raises(ExecutionError, match="encodings"):
        AnsibleObserver(broken, FixedClock()).observe(hosts, (), ignore_progress)


def test_a_run_needs_room_on_the_disk(tmp_path: Path) -> None:
    options = make_options(tmp_path, {"good": LOCAL})
    options.runs.write_text("a file where the folder should be")
    with pytest.raises(ExecutionError, match="the run's folder"):
        AnsibleObserver(options, FixedClock()).observe([Host("good")], (), ignore_progress)


# ------------------------------------------------------------------------------------------------------------- applying
def test_a_plan_reaches_its_host_as_data_and_an_unreachable_one_does_not_keep_others_from_it(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    options = make_options(
        tmp_path,
        {
            "good": {**LOCAL, "cyborg_root": str(root)},
            "idle": {**LOCAL, "cyborg_root": str(root)},
            "closed": CLOSED,
        },
    )
    outcomes = AnsibleExecutor(options).apply(make_plan(root, "good", "closed", "gone"), ignore_progress)
    assert {host: outcome.status for host, outcome in outcomes.items()} == {
        "good": "applied",
        "closed": "unreachable",
        "gone": "missing",
    }, outcomes
    assert [step.status for step in outcomes["good"].steps] == ["changed"]
    assert (root / "etc/modules-load.d/cyborg-vfio_pci.conf").exists()
    assert not (root / "hacked").exists()
    again = AnsibleExecutor(options).apply(make_plan(root, "good"), ignore_progress)
    assert set(again) == {"good"}
    assert [step.status for step in again["good"].steps] == ["unchanged"]


def test_a_state_folder_may_have_any_name_and_a_run_that_went_well_leaves_nothing_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "my state, 2 [old]: so"
    folder.mkdir()
    options = make_options(folder, {"good": LOCAL, "fine": LOCAL})
    commands: list[list[str]] = []

    def look(_progress: Progress) -> None:
        for pid in marked(options):
            with suppress(OSError):  # it ended meanwhile
                commands.append(Path(f"/proc/{pid}/cmdline").read_text().split("\0"))

    found = observe(options, look)
    assert {host: type(one) for host, one in found.items()} == {"good": Observation, "fine": Observation}
    assert list(options.runs.iterdir()) == []
    ansible = [words for words in commands if "--limit" in words]
    assert ansible
    for words in ansible:  # as many hosts as there may be: they have room, and `ps` shows none of them
        assert not [word for word in words if "good" in word or "fine" in word]


def test_what_the_inventory_names_by_a_relative_path_is_found_from_where_the_user_is(tmp_path: Path) -> None:
    options = make_options(tmp_path, {"good": {**LOCAL, "cyborg_root": "{{ lookup('ansible.builtin.pipe', 'pwd') }}"}})
    task = "{ansible.builtin.copy: {content: '', dest: '{{ cyborg_root }}/hi'}}"
    text = f"- hosts: all\n  gather_facts: false\n  tasks: [{task}]\n"
    AnsibleExecutor(replace(options, apply_playbook=write_playbook(tmp_path / "copy.yml", text))).apply(
        make_plan(tmp_path, "good"), ignore_progress
    )
    assert (tmp_path / "hi").exists()

# SPDX-License-Identifier: Apache-2.0
"""Inventories, read by the real ansible-inventory: what comes out of good ones, and what is said of bad ones."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cyborg_reconciler.adapters.ansible import processes
from cyborg_reconciler.adapters.ansible.environment import locale_of
from cyborg_reconciler.adapters.ansible.inventory import AnsibleInventory, explain, parse_inventory
from cyborg_reconciler.adapters.ansible.options import AnsibleOptions
from cyborg_reconciler.core.state import Host
from cyborg_reconciler.errors import InventoryUnreadableError

FLEET = """
all:
  vars: {cyborg_labels: {pool: common}}
  hosts: {lonely: {}}
  children:
    zeta:
      hosts:
        z9: {cyborg_root: /srv/trees/z9}
        z1: {}
    crypto:
      children:
        qat:
          hosts:
            b2: {cyborg_labels: {pool: special, rack: r12}}
            a1: {}
"""

Make = Callable[..., AnsibleInventory]


@pytest.fixture
def inventory(tmp_path: Path) -> Make:
    def make(*sources: str, **more) -> AnsibleInventory:
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **more.pop("environ", {})}
        return AnsibleInventory(
            AnsibleOptions(inventory=sources, runs=tmp_path / "runs", folder=tmp_path, environ=environ, **more)
        )

    (tmp_path / "fleet.yml").write_text(FLEET)
    (tmp_path / "bad.yml").write_text("all:\n  hosts: [is not closed\n")
    return make


def test_hosts_come_in_the_inventorys_order_with_all_their_groups(inventory: Make) -> None:
    assert inventory("fleet.yml").hosts() == (
        Host("lonely", frozenset({"all", "ungrouped"}), {"pool": "common"}),
        Host("z9", frozenset({"all", "zeta"}), {"pool": "common"}, "/srv/trees/z9"),
        Host("z1", frozenset({"all", "zeta"}), {"pool": "common"}),
        Host("b2", frozenset({"all", "crypto", "qat"}), {"pool": "special", "rack": "r12"}),
        Host("a1", frozenset({"all", "crypto", "qat"}), {"pool": "common"}),
    )


def test_a_limit_is_any_pattern(inventory: Make) -> None:
    assert [host.name for host in inventory("fleet.yml", limit="crypto:!b2").hosts()] == ["a1"]


def test_several_sources_are_one_inventory(inventory: Make, tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("[crypto]\nc1 cyborg_root=/srv/c1\n")
    names = [host.name for host in inventory("fleet.yml", "more.ini", "x1,x2,").hosts()]
    assert sorted(names) == ["a1", "b2", "c1", "lonely", "x1", "x2", "z1", "z9"]


@pytest.mark.parametrize("name", ["LC_ALL", "LANG"])
def test_the_users_locale_may_be_any(inventory: Make, name: str) -> None:
    assert [host.name for host in inventory("x1,", environ={name: "C"}).hosts()] == ["x1"]


@pytest.mark.parametrize(
    ("environ", "more"),
    [
        ({}, {}),
        ({"LANG": "de_DE.UTF-8"}, {}),
        ({"LC_ALL": "C.utf8", "LANG": "C"}, {}),
        ({"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, {"LC_ALL": "C.UTF-8"}),
        ({"LC_ALL": "", "LC_CTYPE": "de_DE"}, {"LC_ALL": "C.UTF-8"}),
    ],
)
def test_a_locale_is_changed_only_where_ansible_would_refuse_it(environ, more) -> None:
    assert locale_of(environ) == more


def test_a_script_is_an_inventory(inventory: Make, tmp_path: Path) -> None:
    script = tmp_path / "dynamic"
    answer = '{"crypto": {"hosts": ["%s"]}, "_meta": {"hostvars": {}}}'
    script.write_text(f"#!/bin/sh\nprintf '{answer}' $FLEET_HOST\n")
    script.chmod(stat.S_IRWXU)
    (host,) = inventory("dynamic", environ={"FLEET_HOST": "s1"}).hosts()
    assert (host.name, host.groups) == ("s1", {"all", "crypto"})


def test_without_a_source_it_is_that_of_ansible_cfg(inventory: Make, tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("[defaults]\ninventory = fleet.yml\n")
    assert len(inventory(limit="zeta").hosts()) == 2
    (tmp_path / "other.ini").write_text("x1\n")
    assert [host.name for host in inventory(environ={"ANSIBLE_INVENTORY": "other.ini"}).hosts()] == ["x1"]


def test_variables_in_a_vault_are_read_with_its_password(inventory: Make, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("sesame\n")
    (tmp_path / "group_vars").mkdir()
    secrets = tmp_path / "group_vars/all.yml"
    secrets.write_text("bmc_password: hunter2\n")
    vault = [
        sys.executable,
        "-m",
        "ansible",
        "vault",
        "encrypt",
        "--vault-password-file",
        tmp_path / "password",
        secrets,
    ]
    subprocess.run(vault, check=True, capture_output=True)
    (tmp_path / "some.ini").write_text("h1\n")
    assert inventory("some.ini", vault_password_files=("password",)).hosts()
    with pytest.raises(InventoryUnreadableError, match="vault secrets"):
        inventory("some.ini").hosts()


@pytest.mark.parametrize("sources", [("bad.yml",), ("fleet.yml", "bad.yml")])
def test_a_source_that_cannot_be_parsed_is_an_error_though_others_can(
    inventory: Make, sources: tuple[str, ...]
) -> None:
    with pytest.raises(InventoryUnreadableError) as caught:
        inventory(*sources).hosts()
    line = str(caught.value)
    assert "bad.yml" in line
    assert "YAML parsing failed" in line
    assert "ansible-inventory -i" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("sources", "more", "words"),
    [
        (("nowhere.yml",), {}, "nowhere.yml: no such file"),
        (("empty.yml",), {}, "empty.yml: there are none"),
        (("fleet.yml",), {"limit": "nosuch*"}, "match --limit 'nosuch.*the inventory has none"),
    ],
)
def test_an_inventory_without_hosts_says_why(inventory: Make, tmp_path: Path, sources, more, words: str) -> None:
    (tmp_path / "empty.yml").write_text("all: {hosts: }\n")
    with pytest.raises(InventoryUnreadableError, match=words):
        inventory(*sources, **more).hosts()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("{pool: 3}", r"h1: texts in cyborg_labels: pool: 3 \(int\)"),
        ("[pool]", r"h1: cyborg_labels as a mapping: \['pool'\]"),
        ("{pool: '{{ inventory_hostname }}'}", "h1: plain texts in cyborg_labels: a template in pool"),
    ],
)
def test_labels_are_texts(inventory: Make, tmp_path: Path, labels: str, words: str) -> None:
    (tmp_path / "labels.yml").write_text(f"all: {{hosts: {{h1: {{cyborg_labels: {labels}}}}}}}\n")
    with pytest.raises(InventoryUnreadableError, match=words):
        inventory("labels.yml").hosts()


def test_an_inventory_that_never_ends_is_stopped_and_leaves_nothing(inventory: Make, tmp_path: Path) -> None:
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nsleep 600\n")
    script.chmod(stat.S_IRWXU)
    for timeout_s in (4, 15, 60):  # on a busy machine it takes a while until the script is started
        with pytest.raises(InventoryUnreadableError, match=f"did not end within {timeout_s} s"):
            inventory("slow", inventory_timeout_s=timeout_s).hosts()
        if (tmp_path / "pid").exists():
            break
    assert int((tmp_path / "pid").read_text()) not in processes.read_parents()


def test_the_older_form_of_messages_is_understood() -> None:
    stderr = (
        "[WARNING]:  * Failed to parse /x/hosts.yml with yaml plugin: YAML inventory has invalid structure\n"
        "[WARNING]:  * Failed to parse /x/hosts.yml with ini plugin: Invalid host pattern\n"
        "ERROR! Completely failed to parse inventory source /x/hosts.yml\n"
    )
    verdict = "Completely failed to parse inventory source /x/hosts.yml"
    assert explain(stderr, 1) == f"{verdict}: YAML inventory has invalid structure"
    assert explain("", 250) == "ansible-inventory ended with 250 and said nothing"
    assert explain("zsh: segmentation fault\n", 139) == "zsh: segmentation fault"


def test_what_is_no_json_is_an_error() -> None:
    with pytest.raises(InventoryUnreadableError, match="JSON of ansible-inventory"):
        parse_inventory(b"<html>")

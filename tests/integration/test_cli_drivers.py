# SPDX-License-Identifier: Apache-2.0
"""The commands of the generic driver, over the API of a server that has looked at two hosts."""

import json

import pytest

from cyborg_reconciler.cli.remote import OURS
from tests.integration.agent_support import FakeDriver
from tests.integration.api_world import open_world
from tests.integration.console import call

HOSTS = ["compute-1", "compute-2"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with open_world(tmp_path_factory.mktemp("drivers")) as world:
        world.look(*HOSTS)
        yield world


@pytest.fixture
def ask(world):
    """Runs a command about the server."""
    return lambda *arguments: call(*arguments, "--server", world.server.url)


def backed(world):
    """A driver that the hosts have devices of."""
    return world("GET", "/v1/backends").json()["backends"][0]["driver"]


def test_drivers_are_listed_with_the_hosts_that_have_their_devices(ask, world):
    rows = {row["driver"]: row for row in ask("driver-list", "-o", "json").data}
    assert rows["virtio-crypto"]["type"] == "CRYPTO"
    assert rows[backed(world)]["hosts"] == len(HOSTS)
    assert rows["edu"]["from"].endswith("site.yml")
    assert ask("driver-list").output.splitlines()[0].split() == ["driver", "type", "hosts", "from"]


def test_services_are_listed_with_whether_they_are_up(ask, world):
    rows = ask("service-list", "--type", "api", "-o", "json").data
    assert [(row["type"], row["status"], row["name"]) for row in rows] == [("api", "up", world.server.url)]
    assert ask("service-list", "--status", "down").output == "none\n"
    assert ask("service-list").output.splitlines()[0].split()[:4] == ["type", "host", "name", "status"]


def test_backends_are_listed_with_what_each_driver_offers_on_each_host(ask):
    rows = ask("backend-list", "--host", "compute-1", "-o", "json").data
    assert {row["host"] for row in rows} == {"compute-1"}
    assert all(row["accelerators"] >= 1 for row in rows)
    of_driver = ask("accelerator", "list", "--driver", rows[0]["driver"], "--host", "compute-1", "-o", "json").data
    assert len(of_driver) == sum(row["accelerators"] for row in rows if row["driver"] == rows[0]["driver"])
    assert rows


def test_a_backend_that_goes_while_they_are_listed_keeps_nobody_from_the_others():
    path, offer = "/v1/backends", {"device_type": "CRYPTO", "acc_type": "", "accelerators": 1, "ready": 1, "num": 1}
    listed = [{"uuid": name, "host": "compute-1", "driver": name} for name in ("gone", "there")]
    ours = {OURS: "req-1"}
    answers = {
        ("GET", path): (200, ours, json.dumps({"backends": listed}).encode()),
        ("GET", f"{path}/gone/services"): (404, ours, b"{}"),
        ("GET", f"{path}/there/services"): (200, ours, json.dumps({"services": [offer]}).encode()),
    }
    with FakeDriver(answers) as server:
        (row,) = call("backend-list", "-o", "json", "--server", f"http://{server.endpoint}").data
    assert (row["driver"], row["num"]) == ("there", 1)


def test_a_driver_is_asked_for_on_one_host_and_on_all_that_have_devices_of_it(ask, world):
    (one,) = ask("install-driver", "virtio-crypto", "--host", "compute-1", "-o", "json").data
    assert (one["host"], one["state"], one["status"]) == ("compute-1", "present", "pending")
    everywhere = ask("update-driver", backed(world), "-o", "json").data
    assert [row["host"] for row in everywhere] == HOSTS
    versions = ask("update-driver", "generic-pci", "--version", "3", "-o", "json")
    assert (versions.code, versions.data, versions.errors.count("no module that could be of a version")) == (1, [], 2)
    (gone,) = ask("uninstall-driver", "virtio-crypto", "--host", "compute-1", "-o", "json").data
    assert gone["state"] == "absent"
    assert one["run"] != gone["run"]
    assert "uuid" not in one


RIVAL = """\
api_version: cyborg/v1
kind: Driver
metadata: {name: %s}
spec: {device_type: CRYPTO, kernel_module: %s, match: [{vendor_id: "8086", product_id: ["4940"]}]}
"""


def test_a_driver_is_for_what_it_matches_though_another_one_matches_that_as_well(ask, world):
    (world.tree / "rivals.yml").write_text("---\n".join(RIVAL % (name, "qat_4xxx") for name in ("in-tree", "vendors")))
    world.look("compute-9")
    (one,) = ask("install-driver", "vendors", "-o", "json").data
    assert (one["host"], one["driver"], one["status"]) == ("compute-9", "vendors", "pending")
    (gone,) = ask("uninstall-driver", "vendors", "-o", "json").data
    assert gone["host"] == "compute-9"


def test_a_driver_that_nobody_has_heard_of_is_told_from_one_without_devices(ask):
    unknown = ask("install-driver", "nosuch")
    assert (unknown.code, unknown.errors.strip()) == (1, "there is no driver nosuch; see driver-list")
    unused = ask("install-driver", "virtio-crypto")
    assert (unused.code, "name one with --host" in unused.errors) == (1, True)


@pytest.mark.parametrize("name", ["", ".", "..", "a/../../../policies"])
def test_no_name_leads_anywhere_else(ask, name):
    assert ask("discover-services", "--host", name).code == 1
    assert ask("discover-services", "--host", "compute-1", "--driver", name).code == 1
    assert ask("install-driver", "virtio-crypto", "--host", name).code == 1
    assert ask("uninstall-driver", name, "--host", "compute-1").code == 1


def test_what_cannot_be_asked_for_is_said_in_a_line(ask):
    nobody = ask("install-driver", "edu")
    assert (nobody.code, nobody.errors.strip()) == (
        1,
        "no host has a device of the driver edu; name one with --host",
    )
    unknown = ask("install-driver", "virtio-crypto", "--host", "nowhere")
    assert (unknown.code, "nowhere" in unknown.last_error) == (1, True)


def test_hosts_are_looked_at_again(ask):
    assert ask("discover-services", "--host", "compute-1").output == "compute-1: it has begun\n"
    assert ask("discover-services", "-o", "json").data == {"host": None, "driver": None, "status": "IN-PROGRESS"}
    assert ask("discover-services", "--host", "nowhere").code == 1
    assert ask("discover-services", "--driver", "pci").code == 1

# SPDX-License-Identifier: Apache-2.0
"""The commands that are about a server: how they find it, what they show, and what they say when it refuses."""

import functools
import json
import os
import subprocess
import sys
import threading
import uuid
from datetime import timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.cli.remote import LOCAL, find_remote
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.settings import Settings
from tests.integration.api_support import serving
from tests.integration.console import call


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    state = tmp_path_factory.mktemp("remote") / "state"
    with serving(state, "--auth", "none", "--workers", "1") as server:
        with open_admission(Settings(state)) as operators:
            operators.enrol(Caller("operator", Role.ADMIN), "compute-1", timedelta(hours=1))
        yield server


@pytest.fixture
def ask(server):
    """Runs a command about the server."""
    return lambda *arguments: call(*arguments, "--server", server.url)


@pytest.fixture
def made(server):
    """Makes an accelerator of a type, and returns its uuid."""

    def make(device_type="CRYPTO", **given):
        body = {"name": f"card {uuid.uuid4()}", "acc_specs": {"device_type": device_type}, **given}
        return server("POST", "/v1/accelerators", body).headers["Location"].rpartition("/")[2]

    return make


class TestAccelerators:
    def test_they_are_listed_page_by_page_and_shown(self, ask, made):
        ours = {made("FPGA") for _ in range(3)}
        assert {one["uuid"] for one in ask("accelerator", "list", "--type", "FPGA", "--output", "json").data} == ours
        first = min(ours)
        table = ask("accelerator", "show", first).output
        assert table.splitlines()[0].split()[:4] == ["uuid", "name", "host", "type"]
        assert first in table

    def test_one_that_no_hardware_is_known_to_be_says_why_it_waits(self, ask, made):
        uuid_ = made(host="compute-1")
        for state, is_said in (("ready", True), ("inactive", False)):
            said = ask("accelerator", "set", uuid_, state).output
            assert ("nothing that was found on compute-1" in said) is is_said

    def test_their_state_is_set(self, ask, made):
        (shown,) = ask("accelerator", "set", made(), "maintenance", "-o", "json").data
        assert shown["desired_state"] == "maintenance"

    @pytest.mark.parametrize("way", ["{}/../../policies/mine", "", "?limit=1", "{}?x", "../policies"])
    def test_what_is_no_uuid_leads_nowhere_else(self, ask, made, way):
        refused = ask("accelerator", "show", way.format(made()))
        assert (refused.code, "is not a valid UUID" in refused.errors) == (1, True)


class TestInstances:
    def test_a_vm_gets_one_that_is_free_and_gives_all_back(self, ask, made):
        one, other = made("NVME"), made("NVME")
        vm = str(uuid.uuid4())
        attached = [ask("attach-instance", vm, "--type", "NVME", "-o", "json").data[0]["uuid"] for _ in range(2)]
        assert sorted(attached) == sorted([one, other])
        third = ask("attach-instance", vm, "--type", "NVME")
        assert (third.code, third.errors.strip()) == (1, "no accelerator of type NVME is ready and free")
        assert len(ask("detach-instance", vm, "-o", "json").data) == 2
        assert (
            ask("attach-instance", vm, "--accelerator", one, "-o", "json").data[0]["attachment"]["instance_uuid"] == vm
        )
        refused = ask("attach-instance", vm, "--accelerator", one)
        assert (refused.code, "attached already" in refused.last_error) == (1, True)
        assert ask("detach-instance", vm).code == 0

    def test_one_that_is_allocated_keeps_a_vm_from_no_other(self, ask, made, server):
        ours = sorted(made("PROCESSING") for _ in range(3))
        vm, consumer = str(uuid.uuid4()), str(uuid.uuid4())
        for one in ours:
            assert ask("attach-instance", vm, "--accelerator", one).code == 0
        taken = {"allocations": [{"accelerator": ours[0], "amount": 1}]}
        assert server("PUT", f"/v1/allocations/{consumer}", taken).status == 200
        partly = ask("detach-instance", vm, "-o", "json")
        assert (partly.code, [one["uuid"] for one in partly.data]) == (1, ours[1:])
        assert f"{consumer} has an allocation of it" in partly.errors
        assert server("DELETE", f"/v1/allocations/{consumer}").status == 204
        assert [one["uuid"] for one in ask("detach-instance", vm, "-o", "json").data] == ours[:1]

    def test_both_ways_to_choose_are_one_too_many(self, ask):
        refused = ask("attach-instance", "x", "--type", "GPU", "--accelerator", str(uuid.uuid4()))
        assert (refused.code, "not both" in refused.errors) == (1, True)


class TestServer:
    def test_one_that_is_not_there_is_told_in_a_line(self):
        answer = call("accelerator", "list", "--server", "http://127.0.0.1:9")
        assert answer.code == 1
        assert "the server http://127.0.0.1:9: " in answer.last_error
        assert "object at 0x" not in answer.last_error

    def test_one_that_is_none_of_ours_is_told_in_a_line(self, tmp_path):
        (tmp_path / "v1").mkdir()
        (tmp_path / "v1/accelerators").write_text("{}")
        handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
            threading.Thread(target=other.serve_forever).start()
            answer = call("accelerator", "list", "--server", f"http://127.0.0.1:{other.server_port}")
            other.shutdown()
        assert (answer.code, "another server answers there" in answer.last_error) == (1, True)

    def test_a_url_says_how_the_server_is_spoken_to(self):
        answer = call("accelerator", "list", "--server", "127.0.0.1:6670")
        assert answer.errors.strip() == "error: a URL of a server, http://HOST:PORT say: 127.0.0.1:6670"

    @pytest.mark.parametrize("way", ["option", "environment", "cloud", "named cloud", "only cloud"])
    def test_a_command_finds_it_by_each_way_before_those_that_come_after(self, server, tmp_path, way):
        """What comes before is not given; what comes after leads nowhere."""
        nowhere, words, prefix = "http://127.0.0.1:9", [], "CYBORG_RECONCILER_"
        both = f"clouds: {{here: {{server: '{server.url}'}}, there: {{server: '{nowhere}'}}}}"
        clouds = both if "named" in way or way == "cloud" else f"clouds: {{here: {{server: '{server.url}'}}}}"
        environ = {name: text for name, text in os.environ.items() if not name.startswith(prefix)}
        environ["XDG_CONFIG_HOME"] = str(tmp_path)
        match way:
            case "option":
                words, clouds = ["--server", server.url], clouds.replace(server.url, nowhere)
                environ[f"{prefix}SERVER"] = nowhere
            case "environment":
                environ[f"{prefix}SERVER"], clouds = server.url, clouds.replace(server.url, nowhere)
            case "cloud":
                words, environ[f"{prefix}SERVER"] = ["--cloud", "here"], nowhere
            case "named cloud":
                environ[f"{prefix}CLOUD"] = "here"
        (tmp_path / "cyborg-reconciler").mkdir()
        (tmp_path / "cyborg-reconciler/clouds.yaml").write_text(clouds)
        program = Path(sys.executable).parent / "cyborg-reconciler"
        command = [program, "accelerator", "list", *words, "--output", "json"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), list)

    def test_it_is_the_one_that_is_given_then_the_environments_then_the_files(self, tmp_path):
        folder = tmp_path / "cyborg-reconciler"
        folder.mkdir()
        token = folder / "token"
        token.write_text("secret\n")
        token.chmod(0o600)
        clouds = "clouds: {east: {server: 'https://east:1', token_file: token}, west: {server: 'http://west:1'}}"
        (folder / "clouds.yaml").write_text(clouds)
        environ = {"XDG_CONFIG_HOME": str(tmp_path), "CYBORG_RECONCILER_SERVER": "http://environment:1"}
        assert find_remote("http://given:1", None, environ).url == "http://given:1"
        assert find_remote(None, None, environ).url == "http://environment:1"
        assert find_remote(None, "west", environ).url == "http://west:1"
        del environ["CYBORG_RECONCILER_SERVER"]
        assert find_remote(None, "east", environ).url == "https://east:1"
        with pytest.raises(SettingsInvalidError, match="east, west"):
            find_remote(None, None, environ)
        token.chmod(0o644)
        with pytest.raises(SettingsInvalidError, match="chmod 600"):
            find_remote(None, "east", environ)
        assert find_remote(None, None, {"HOME": "/nonexistent"}).url == LOCAL

    @pytest.mark.parametrize(
        "url", ["http://east:1", "http://127.0.0.1.example", "http://[2001:db8::1]:1", "http://127.0.0.1@east:1"]
    )
    def test_a_token_goes_to_another_machine_by_tls_alone_unless_that_is_allowed(self, tmp_path, url):
        (tmp_path / "token").write_text("secret\n")
        (tmp_path / "token").chmod(0o600)
        path, given = tmp_path / "clouds.yaml", {"CYBORG_RECONCILER_TOKEN": "secret"}
        path.write_text(f"clouds: {{east: {{server: '{url}', token_file: token}}}}")
        by_file = {"CYBORG_RECONCILER_CLOUDS": str(path)}
        for server, environ in ((url, given), (None, by_file)):
            with pytest.raises(SettingsInvalidError, match=r"in the clear.*CYBORG_RECONCILER_PLAIN_HTTP=true"):
                find_remote(server, None, environ)
            allowed = {**environ, "CYBORG_RECONCILER_PLAIN_HTTP": "true"}
            assert find_remote(server, None, allowed).url == url
        path.write_text(f"clouds: {{east: {{server: '{url}', token_file: token, plain_http: true}}}}")
        assert find_remote(None, None, by_file).url == url
        assert find_remote(url, None, {}).url == url  # there is nothing to read
        for safe in ("https://east:1", "http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"):
            assert find_remote(safe, None, given).url == safe

    @pytest.mark.parametrize("text", ["", "clouds: []", "clouds: {east: {}}", "clouds: [", "\x00"])
    def test_a_file_that_is_none_of_clouds_is_told(self, tmp_path, text):
        path = tmp_path / "clouds.yaml"
        path.write_text(text)
        with pytest.raises(SettingsInvalidError):
            find_remote(None, None, {"CYBORG_RECONCILER_CLOUDS": str(path)})

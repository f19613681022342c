# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent, does the API answer as it says that it does? schemathesis, by what the server says of itself.

No answer may be a 5xx, have a status, a content type, a header or a body that is not described, or take what the
schemas forbid. It is the same on every run: what each operation allows and every kind of what it forbids, at every
edge, and random examples of both.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from cyborg_reconciler.bootstrap import open_admission
from cyborg_reconciler.conductor.callers import Caller, Role
from cyborg_reconciler.settings import Settings
from tests.integration.api_support import serving

pytestmark = pytest.mark.slow

#: What is sent; each operation has so many random examples.
SENT = ("--phases", "examples,coverage,fuzzing", "--mode", "all", "--max-examples", "25")

#: What is not asked: `none` asks nobody who he is, so that no token is missed; and what the schemas let pass may be
#: refused all the same, since some of it hangs on the path (the key to update) or on what is there (a marker).
LEFT_OUT = "ignored_auth,object_level_authorization,positive_data_acceptance"

#: The sample's own, so that there is something behind the path of each operation on one accelerator.
SAMPLE = {"name": "IPSec Card", "uuid": "8e45a2ea-5364-4b0d-a252-bf8becaa606e"}

CONFIGURATION = """
[phases.coverage]
unexpected-methods = ["TRACE"]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429]
"""


def test_no_input_makes_the_api_answer_otherwise_than_it_says(tmp_path):
    with serving(tmp_path / "state", "--auth", "none", "--workers", "1") as server:
        described = without_headers(server("GET", "/openapi.json").json())
        assert server("POST", "/v1/accelerators", SAMPLE).status == 201
        operations = sum(map(len, described["paths"].values()))
        done = fuzz(tmp_path, described, server.url)
    assert done.returncode == 0, "\n".join(line[:500] for line in done.stdout.splitlines())[-20_000:]
    (tested,) = re.findall(r"Tested: (\d+)", done.stdout)
    assert int(tested) == operations
    (generated,) = re.findall(r"(\d+) generated", done.stdout)
    assert int(generated) > 20 * operations


def test_nothing_that_an_agent_may_send_makes_the_api_answer_otherwise_than_it_says(tmp_path):
    """With a token that is valid: without one, what is sent is not even parsed."""
    state, host = tmp_path / "state", "compute-7"
    with (
        serving(state, "--auth", "none", "--workers", "1") as server,
        open_admission(Settings(state)) as operators,
    ):
        minted = operators.enrol(Caller("tests", Role.ADMIN), host, timedelta(hours=1))
        body = {"agent_version": "0.1.0", "inventory": {"hostname": host}}
        token = server("POST", "/v1/lookup", body, authorization=f"Bearer {minted}").json()["token"]
        described = without_headers(server("GET", "/openapi.json").json())
        described["paths"] = {path: described["paths"][path] for path in ("/v1/hello", "/v1/heartbeat/{host}")}
        (parameter,) = described["paths"]["/v1/heartbeat/{host}"]["post"]["parameters"]
        parameter["schema"] = {"enum": [host]}
        parameter.pop("example", None)
        done = fuzz(tmp_path, described, server.url, "--header", f"Authorization: Bearer {token}")
    assert done.returncode == 0, "\n".join(line[:500] for line in done.stdout.splitlines())[-20_000:]
    log = (tmp_path / "state.log").read_text(encoding="utf-8")
    statuses = Counter(re.findall(r"path=/v1/heartbeat/compute-7 status=(\d+)", log))
    assert statuses["202"], "some of it is taken"
    assert statuses["401"] < statuses["400"], f"and most is parsed: {statuses}"


def without_headers(described):
    """The description without what is the same for all: who calls, his request's id, and the tags that he knows."""
    del described["components"]["securitySchemes"]
    for told in (told for methods in described["paths"].values() for told in methods.values()):
        del told["security"]
        told["parameters"] = [one for one in told["parameters"] if "$ref" not in one]
    return described


def fuzz(folder, described, url, *arguments):
    (folder / "openapi.json").write_text(json.dumps(described))
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", "schemathesis.toml", "run"]
    command += ["openapi.json", "--url", url, *SENT, "--generation-deterministic", "--continue-on-failure"]
    command += ["--checks", "all", "--exclude-checks", LEFT_OUT, "--request-timeout", "60", "--no-color", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

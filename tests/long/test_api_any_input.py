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
from pathlib import Path

import pytest

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
"""


def test_no_input_makes_the_api_answer_otherwise_than_it_says(tmp_path):
    with serving(tmp_path / "state", "--auth", "none", "--workers", "1") as server:
        described = without_headers(server("GET", "/openapi.json").json())
        assert server("POST", "/v1/accelerators", SAMPLE).status == 201
        operations = sum(map(len, described["paths"].values()))
        done = fuzz(tmp_path, described, server.url)
    assert done.returncode == 0, done.stdout[-20_000:]
    (tested,) = re.findall(r"Tested: (\d+)", done.stdout)
    assert int(tested) == operations
    (generated,) = re.findall(r"(\d+) generated", done.stdout)
    assert int(generated) > 20 * operations


def without_headers(described):
    """The description without what is the same for all: who calls, his request's id, and the tags that he knows."""
    del described["components"]["securitySchemes"]
    for told in (told for methods in described["paths"].values() for told in methods.values()):
        del told["security"]
        told["parameters"] = [one for one in told["parameters"] if "$ref" not in one]
    return described


def fuzz(folder, described, url):
    (folder / "openapi.json").write_text(json.dumps(described))
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", "schemathesis.toml", "run"]
    command += ["openapi.json", "--url", url, *SENT, "--generation-deterministic", "--continue-on-failure"]
    command += ["--checks", "all", "--exclude-checks", LEFT_OUT, "--request-timeout", "60", "--no-color"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

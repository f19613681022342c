# SPDX-License-Identifier: Apache-2.0
"""Whoever tells an agent by what it knows the conductor says the same: the conductor's CLI, and the role's filter."""

import json

import pytest
from ansible.errors import AnsibleFilterError
from click.testing import CliRunner

from ansible_collections.openstack.cyborg.plugins.filter import port_digest as filters
from cyborg_reconciler.adapters.agent_port import read_agent_secret
from cyborg_reconciler.cli.agents import agents
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.port_credentials import CONTEXT, SECRET_CHARACTERS
from cyborg_reconciler.settings import PREFIX

HOSTS = ("compute-7", "Compute-7", "compute-7.example.com", "rechner-ä")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "agent-secret"
    path.touch(0o600)
    return path


@pytest.mark.parametrize("secret", ["f00d" * 16, "!" * SECRET_CHARACTERS, "~" * 4095])
@pytest.mark.parametrize("host", HOSTS)
def test_the_cli_and_the_filter_make_the_same_digest(file, host, secret):
    file.write_text(f"{secret}\n")
    environ = {f"{PREFIX}AGENT_SECRET_FILE": str(file), "HOME": str(file.parent)}
    told = [CliRunner(env=environ).invoke(agents, ["digest", host, *words]) for words in ([], ["--output", "json"])]
    assert [one.exit_code for one in told] == [0, 0], told
    digest = filters.port_digest(secret, host)
    assert told[0].output == f"{digest}\n"
    assert json.loads(told[1].output) == {"host": host, "digest": digest}
    assert filters.CONTEXT == CONTEXT


@pytest.mark.parametrize("secret", ["s3cret", "a" * (SECRET_CHARACTERS - 1), "ü" * 40, "two words " * 4])
def test_neither_takes_a_secret_that_a_host_could_guess(file, secret):
    file.write_text(secret)
    with pytest.raises(SettingsInvalidError):
        read_agent_secret(file)
    with pytest.raises(AnsibleFilterError):
        filters.port_digest(secret, "compute-7")

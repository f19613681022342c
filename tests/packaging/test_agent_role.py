# SPDX-License-Identifier: Apache-2.0
"""Does the role `agent` write what the agent reads and systemd takes? Renders its templates; the lab runs the role."""

import json
import re
import shutil
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import jinja2
import pytest
import yaml

from cyborg_reconciler.agent.settings import AgentSettings, read_agent_settings
from tests.needs import missing

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "collections/ansible_collections/openstack/cyborg/roles/agent"
GIVEN = {
    "agent_conductor": "https://cloud.example:6670",
    "agent_conductor_secrets": ["of-no-consequence-to-the-settings"],
    "agent_bind": "192.0.2.7:1337",
    "agent_ca_file": "ca.pem",
    "agent_tls_cert_file": "agent.pem",
    "agent_tls_key_file": "agent.key",
    "agent_settings": {"dummy_devices": 2, "log_format": "json"},
}


def read(name):
    return yaml.safe_load((ROLE / name).read_text())


@pytest.fixture(scope="module")
def render():
    """Render a template of the role as Ansible does, with its defaults and *given*."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - neither template is of a page
    )
    environment.filters |= {"to_json": json.dumps, "bool": bool}

    def rendered(name, **given):
        variables = {"ansible_managed": "Ansible managed", **read("defaults/main.yml"), **given}
        files = {
            setting: environment.from_string(text).render(variables)
            for setting, text in read("vars/main.yml")["agent_files"].items()
        }
        return environment.get_template(name).render(variables, agent_files=files)

    return rendered


def test_what_the_role_writes_the_agent_reads(render, tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(render("agent.toml.j2", **GIVEN))
    settings = read_agent_settings({}, path)
    place = Path("/etc/cyborg-agent")
    assert settings == AgentSettings(
        conductor="https://cloud.example:6670",
        bind="192.0.2.7:1337",
        ca_file=place / "ca_file.pem",
        tls_cert_file=place / "tls_cert_file.pem",
        tls_key_file=place / "tls_key_file.pem",
        enrolment_file=place / "enrolment",
        conductor_digest_file=place / "conductor_digest",
        driver_credential_file=place / "driver_credential",
        dummy_devices=2,
        log_format="json",
    )


def test_without_more_than_it_needs_the_settings_are_the_agents_own(render):
    text = render("agent.toml.j2", agent_conductor="https://cloud.example:6670")
    assert "conductor_digest_file" not in text
    assert set(tomllib.loads(text)) <= {field.name for field in fields(AgentSettings)}


def test_what_a_variable_holds_cannot_become_another_setting(render):
    hostile = 'https://cloud.example"\nroot = "/tmp'
    assert tomllib.loads(render("agent.toml.j2", agent_conductor=hostile))["conductor"] == hostile


def test_the_libraries_are_those_of_the_small_install():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    defaults = read("defaults/main.yml")
    assert defaults["agent_libraries"] == extras["agent"]
    options = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name: option.get("default", "") for name, option in options.items()} == defaults
    assert {name for name, option in options.items() if option.get("no_log")} == {
        *("agent_enrolment_token", "agent_conductor_secrets", "agent_driver_credential")
    }


def test_systemd_knows_every_line_of_the_unit(render, tmp_path):
    if not shutil.which("systemd-analyze"):
        missing("systemd", "there is no systemd here")
    unit, text = tmp_path / "cyborg-agent.service", render("cyborg-agent.service.j2")

    def wrong_lines(text):
        unit.write_text(text)
        command = ["systemd-analyze", "verify", str(unit)]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        return re.findall(r"cyborg-agent\.service:\d+:.*", said)

    assert wrong_lines(text) == []
    assert len(wrong_lines(f"{text}\n[Service]\nNonsense=1\n")) == 1, "it does tell of them"

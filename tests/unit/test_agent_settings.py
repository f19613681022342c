# SPDX-License-Identifier: Apache-2.0
"""What an agent may be told, and what it refuses: tokens in the clear, secrets that others may read."""

from pathlib import Path

import pytest

from cyborg_reconciler.agent.settings import (
    PREFIX,
    AgentSettings,
    is_loopback,
    parse_address,
    read_agent_settings,
)
from cyborg_reconciler.bootstrap import agent_port
from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.secret_files import read_secret, read_secrets
from cyborg_reconciler.settings import Settings
from cyborg_reconciler_api.wsgi import agent_terms

URL = "https://cloud.example:6670"


def settings(tmp_path: Path, text: str, **environ: str) -> AgentSettings:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return read_agent_settings({PREFIX + name: value for name, value in environ.items()}, path)


def test_the_environment_wins_over_the_file(tmp_path):
    found = settings(tmp_path, f'conductor = "{URL}"\ndummy_devices = 2\nstate_dir = "/srv/a"\n', DUMMY_DEVICES="3")
    assert found == AgentSettings(conductor=URL, dummy_devices=3, state_dir=Path("/srv/a"))
    assert found.address == ("127.0.0.1", 1337)


def test_the_environment_alone_is_enough():
    found = read_agent_settings({f"{PREFIX}CONDUCTOR": URL, f"{PREFIX}POLL_INTERVAL_S": "0.5"})
    assert (found.conductor, found.poll_interval_s) == (URL, 0.5)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "conductor"),
        ("conductor =", "TOML"),
        ('conductor = "cloud.example"', "https://NAME:PORT"),
        ('conductor = "ftp://cloud.example"', "https://NAME:PORT"),
        ('conductor = "https://user:secret@cloud.example"', "https://NAME:PORT"),
        ('conductor = "https://cloud.example:99999"', "https://NAME:PORT"),
        ('conductor = "http://cloud.example:6670"', "in the clear"),
        ("conductor = 5", "a text"),
        (f'conductor = "{URL}"\nspoons = 1', "spoons"),
        (f'conductor = "{URL}"\ndummy_devices = -1', "whole number"),
        (f'conductor = "{URL}"\ndummy_devices = true', "whole number"),
        (f'conductor = "{URL}"\npoll_interval_s = 0', "above 0"),
        (f'conductor = "{URL}"\nplain_http = "perhaps"', "true or false"),
        (f'conductor = "{URL}"\nbind = "1337"', "HOST:PORT"),
        (f'conductor = "{URL}"\nbind = "0.0.0.0:1337"', "tls_cert_file"),
        (f'conductor = "{URL}"\ntls_cert_file = "/c"', "one without the other"),
        (f'conductor = "{URL}"\nclient_key_file = "/k"', "one without the other"),
        (f'conductor = "{URL}"\ntls_client_ca_file = "/ca"', "tls_cert_file"),
        (f'conductor = "{URL}"\nlog_format = "xml"', "text or json"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, text, word):
    with pytest.raises(SettingsInvalidError, match=word):
        settings(tmp_path, text)


def test_a_file_that_is_named_and_not_there_is_an_error(tmp_path):
    with pytest.raises(SettingsInvalidError, match="it is not there"):
        read_agent_settings({}, tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:1337", ("::1", 1337)), ("compute-7:65535", ("compute-7", 65535))],
)
def test_an_address_is_a_host_and_a_port(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":", "a:", ":1", "a:65536", "a:-1", "a:1e3", "a:²"])
def test_anything_else_is_no_address(text):
    with pytest.raises(SettingsInvalidError):
        parse_address(text)


def test_only_what_can_be_nothing_else_is_loopback():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(
        map(is_loopback, ("", "198.51.100.1", "localhost.example", "192.0.2.1", "127.0.0.1.example", "2130706433"))
    )


def test_a_secret_is_one_word_that_nobody_else_may_read(tmp_path):
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    path.chmod(0o640)
    assert read_secret(path, group=True) == "s3cret"
    with pytest.raises(SettingsInvalidError, match="chmod 600"):
        read_secret(path)
    path.chmod(0o600)
    assert read_secret(path) == "s3cret"
    for text in ("", " ", "two words", "line\nline", "\x00", "ünlaut", "x" * 5000):
        path.write_text(text)
        with pytest.raises(SettingsInvalidError, match="one printable word"):
            read_secret(path)
    with pytest.raises(SettingsInvalidError, match="No such file"):
        read_secret(tmp_path / "gone")


def test_several_secrets_are_one_a_line(tmp_path):
    path = tmp_path / "digests"
    path.touch(0o600)
    path.write_text("\nfirst\n\nsecond\n")
    assert read_secrets(path) == ("first", "second")
    for text in ("", "\n", "first\nünlaut", "first\n\x00", "x\n" * 5000):
        path.write_text(text)
        with pytest.raises(SettingsInvalidError, match="no printable words"):
            read_secrets(path)
    path.chmod(0o644)
    with pytest.raises(SettingsInvalidError, match="others may read it"):
        read_secrets(path)


@pytest.mark.parametrize(
    ("mode", "text", "why"), [(0o640, "s3cret", "others may read it"), (0o600, "two words", "one")]
)
def test_who_reads_a_secret_checks_it_alike(tmp_path, mode, text, why):
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(mode)
    settings = Settings(tmp_path, enrolment_secret_file=str(path), agent_secret_file=str(path))
    for reader in (agent_terms, agent_port):
        with pytest.raises(SettingsInvalidError, match=why):
            reader(settings)

# SPDX-License-Identifier: Apache-2.0
"""What an installation is told: a file, then the environment, and a clear word about what cannot be used."""

from pathlib import Path

import pytest

from cyborg_reconciler.errors import SettingsInvalidError
from cyborg_reconciler.settings import read_settings


def test_without_a_file_the_state_is_in_the_xdg_folder(tmp_path: Path) -> None:
    assert read_settings({"HOME": str(tmp_path)}).state_dir == tmp_path / ".local/state/cyborg-reconciler"
    settings = read_settings({"HOME": "/nowhere", "XDG_STATE_HOME": str(tmp_path)})
    assert settings.state_dir == tmp_path / "cyborg-reconciler"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('forks = 4\ninterval_s = 60\ninventory = ["a", "b"]\n')
    environ = {"HOME": "/nowhere", "CYBORG_RECONCILER_CONFIG": str(path), "CYBORG_RECONCILER_FORKS": "8"}
    settings = read_settings(environ)
    assert (settings.forks, settings.interval_s, settings.inventory) == (8, 60, ("a", "b"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("forks = 0", "above 0"),
        ("forks = true", "above 0"),
        ("spoons = 1", "spoons"),
        ("requests_per_min = -1", "0 or more"),
        ('trusted_proxies = ["proxy.example.com"]', "proxy.example.com"),
        ('trusted_proxies = "10.0.0.1/8"', "host bits"),
        ("forks =", "TOML"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_with_its_file(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(SettingsInvalidError, match=word) as caught:
        read_settings({"HOME": "/nowhere", "CYBORG_RECONCILER_CONFIG": str(path)})
    assert str(path) in str(caught.value)


def test_limits_can_be_turned_off_and_proxies_are_addresses_and_networks(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('requests_per_min = 0\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n')
    environ = {"HOME": "/nowhere", "CYBORG_RECONCILER_CONFIG": str(path)}
    settings = read_settings(environ)
    assert (settings.requests_per_min, settings.trusted_proxies) == (0, ("10.0.0.0/8", "::1/128"))
    settings = read_settings({**environ, "CYBORG_RECONCILER_TRUSTED_PROXIES": "127.0.0.1, 192.0.2.0/24"})
    assert settings.trusted_proxies == ("127.0.0.1/32", "192.0.2.0/24")


def test_a_file_that_is_named_and_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalidError, match="it is not there"):
        read_settings({"HOME": "/nowhere", "CYBORG_RECONCILER_CONFIG": str(tmp_path / "gone.toml")})


URL = "postgresql://cyborg@db.example.com/cyborg?sslmode=verify-full"


def test_an_empty_variable_brings_the_journal_back_from_the_database_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'database = "{URL}"\n')
    environ = {"HOME": "/nowhere", "CYBORG_RECONCILER_CONFIG": str(path)}
    assert read_settings(environ).database == URL
    assert read_settings({**environ, "CYBORG_RECONCILER_DATABASE": ""}).database == ""
    assert read_settings({"HOME": "/nowhere", "CYBORG_RECONCILER_DATABASE": URL}).database == URL


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("postgresql://cyborg:hidden@db/cyborg", "PGPASSFILE"),
        ("postgres://cyborg@db/cyborg?password=hidden", "PGPASSFILE"),
        ("postgresql://cyborg@db/cyborg?sslpass%77ord=hidden", "PGPASSFILE"),
        ("mysql://hidden@db/cyborg", "begins otherwise"),
        ("hidden", "begins otherwise"),
        ("postgresql://[hidden/cyborg", "is none"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_and_not_shown(url: str, word: str) -> None:
    with pytest.raises(SettingsInvalidError, match=word) as caught:
        read_settings({"HOME": "/nowhere", "CYBORG_RECONCILER_DATABASE": url})
    assert "the environment" in str(caught.value)
    assert "hidden" not in str(caught.value)

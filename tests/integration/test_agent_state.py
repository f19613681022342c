# SPDX-License-Identifier: Apache-2.0
"""What an agent keeps: whole or not at all, in order, few; and what makes no sense is set aside.

Uses folders of its own, since what a disk does is what is to be shown; a full one is a tmpfs of a few kilobytes.
"""

import contextlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from cyborg_reconciler.agent.drivers.registry import REMOTE_LIMIT, Registry
from cyborg_reconciler.agent.drivers.remote import Registration
from cyborg_reconciler.agent.spool import LIMIT, Entry, Spool
from cyborg_reconciler.agent.state import Identity, StateFolder, read_identity, rotated, write_identity
from cyborg_reconciler.errors import AlreadyRunningError, SettingsInvalidError
from tests import disks

ME = Identity("compute-7", "6d1c3a52-0df8-4c3d-9f6e-0a4b7f3d8a11", "old")


@pytest.fixture
def folder(tmp_path):
    folder = StateFolder(tmp_path / "state")
    yield folder
    folder.close()


def entry(sequence, epoch=7, **body):
    return Entry(epoch, sequence, {"epoch": epoch, "sequence": sequence, "fingerprint": f"f{sequence}", **body})


def delivered(spool):
    """Take out everything, as it is delivered; return the places in the order."""
    places = []
    while oldest := spool.oldest():
        places.append((oldest.epoch, oldest.sequence))
        spool.done(oldest)
    return places


# --------------------------------------------------------------------------------------------------------------- spool
def test_what_was_spooled_is_there_after_a_restart_in_order(folder):
    spool = Spool(folder)
    for item in (entry(9), entry(10), entry(1, epoch=8)):
        spool.add(item)
    again = Spool(folder)
    assert again.oldest() == entry(9)
    assert delivered(again) == [(7, 9), (7, 10), (8, 1)]
    assert folder.names("spool") == []


def test_the_newest_supersedes_the_oldest(folder):
    spool = Spool(folder)
    for sequence in range(1, LIMIT + 4):
        spool.add(entry(sequence))
    assert len(folder.names("spool")) == LIMIT
    assert delivered(Spool(folder)) == [(7, sequence) for sequence in range(4, LIMIT + 4)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda data: data[:-7],
        lambda data: data.replace(b"f2", b"f3"),
        lambda _: b"\xff\x00 no JSON",
        lambda _: b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_set_aside_and_the_others_are_delivered(folder, damage):
    spool = Spool(folder)
    for sequence in (1, 2, 3):
        spool.add(entry(sequence))
    path = folder.path / entry(2).name
    path.write_bytes(damage(path.read_bytes()))
    assert delivered(Spool(folder)) == [(7, 1), (7, 3)]
    assert (folder.path / "spool.unreadable").exists()


def test_a_write_that_was_cut_short_is_no_entry(folder):
    Spool(folder).add(entry(1))
    half = folder.path / f"{entry(2).name}.new"
    half.write_bytes(b"half of it")
    assert delivered(Spool(folder)) == [(7, 1)]
    assert not half.exists()  # or each kill would leave one


# --------------------------------------------------------------------------------------------------------- many threads
@pytest.fixture
def hasty():
    """Threads that take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(calls):
    """Make all *calls* at once, each in a thread of its own; return what they return."""
    begun = threading.Barrier(len(calls))

    def make(call):
        begun.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(make, calls))


@pytest.mark.usefixtures("hasty")
def test_a_file_that_many_threads_write_is_whole_and_each_of_them_has_written_it(folder):
    def write_often(letter):
        return [folder.write_json("drivers.json", {"drivers": letter * 3000 * turn}) for turn in range(8)]

    assert all(map(all, together([partial(write_often, letter) for letter in "abcdefgh"])))
    assert folder.troubles == ()
    assert len(json.loads(folder.read("drivers.json"))["drivers"]) == 3000 * 7


@pytest.mark.usefixtures("hasty")
def test_what_could_not_be_written_is_never_put_over_what_was_written_since(folder):
    for turn in range(8):
        names = [f"{letter}.json" for letter in "abcdefgh"]
        for name in names:
            (folder.path / f"{name}.new").mkdir()  # nothing can be written there
            assert not folder.write_json(name, {"turn": -1})
            (folder.path / f"{name}.new").rmdir()
        together([folder.flush, *(partial(folder.write_json, name, {"turn": turn}) for name in names)])
        assert [folder.read_json(name) for name in names] == [{"turn": turn}] * len(names)


class CountingFolder(StateFolder):
    """Notes how many drivers each write remembers, in order."""

    def write(self, name, data):
        self.remembered.append(len(json.loads(data)["drivers"]))
        return super().write(name, data)


@pytest.mark.usefixtures("hasty")
def test_drivers_that_all_say_hello_at_once_are_all_remembered(tmp_path):
    hellos = [Registration(f"d{number}", "CRYPTO", f"127.0.0.1:{5000 + number}") for number in range(REMOTE_LIMIT)]
    for turn in range(8):
        with contextlib.closing(CountingFolder(tmp_path / str(turn))) as folder:
            folder.remembered = []
            registry = Registry([], folder)
            together([partial(registry.register, hello) for hello in hellos])
            assert folder.remembered == sorted(folder.remembered)  # none forgets who came before
            assert sorted(Registry([], folder).names()) == sorted(hello.name for hello in hellos)


# ----------------------------------------------------------------------------------------------------------- full disk
@pytest.fixture
def small_disk(tmp_path):
    """A file system of two pages."""
    with disks.small_disk(tmp_path / "disk", "8k") as place:
        yield place


def fill(path):
    """Write *path* until there is no room."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_on_a_full_disk_memory_goes_on_and_the_disk_is_caught_up_with_later(small_disk):
    folder = StateFolder(small_disk / "state")
    spool = Spool(folder)
    filler = small_disk / "filler"
    fill(filler)
    spool.add(entry(1, facts="x" * 1000))
    assert spool.oldest() == entry(1, facts="x" * 1000)
    assert [trouble for trouble in folder.troubles if "cannot be written" in trouble]
    assert Spool(folder).oldest() is None
    filler.unlink()
    folder.flush()
    assert folder.troubles == ()
    assert Spool(folder).oldest() == entry(1, facts="x" * 1000)
    folder.close()


# ---------------------------------------------------------------------------------------------------- token and epoch
def test_the_new_token_is_stored_before_the_old_one_is_dropped(folder):
    write_identity(folder, rotated(ME, "new"))
    assert read_identity(folder) == replace(ME, token="new", previous="old")
    assert rotated(rotated(ME, "new"), "newer") == replace(ME, token="newer", previous="old")
    assert rotated(ME, "old") == ME


def test_files_are_for_the_agent_alone(folder):
    write_identity(folder, ME)
    Spool(folder).add(entry(1))
    for path in folder.path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"host": 1, "uuid": "u", "token": "t"}', "{" * 100_000])
def test_an_identity_that_makes_no_sense_is_set_aside(folder, text):
    (folder.path / "identity.json").write_text(text)
    assert read_identity(folder) is None
    assert (folder.path / "identity.json.unreadable").exists()


def test_each_start_has_a_higher_epoch_also_when_the_clock_runs_backwards(folder):
    assert folder.begin_epoch(1_700_000_000) == 1_700_000_000
    assert folder.begin_epoch(1_600_000_000) == 1_700_000_001
    (folder.path / "epoch.json").write_text('{"epoch": "many"}')
    assert folder.begin_epoch(1_700_000_009) == 1_700_000_009


def test_two_agents_do_not_share_a_folder(folder):
    with pytest.raises(AlreadyRunningError):
        StateFolder(folder.path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalidError, match="file"):
        StateFolder(tmp_path / "file/state")

# SPDX-License-Identifier: Apache-2.0
"""A plan that is saved is there as a whole, and for its owner alone; what was there before is not lost to trouble."""

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from cyborg_reconciler.cli.plan import save


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Have no room for a file of more than *size* bytes, as on a disk that is almost full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_the_plan_before_stays_where_there_is_no_room_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    save(path, b"old")
    with room_for(100), pytest.raises(click.FileError):
        save(path, b"new" * 100)
    assert path.read_bytes() == b"old\n"
    assert list(tmp_path.iterdir()) == [path]
    with room_for(100), pytest.raises(click.FileError):
        save(tmp_path / "other.json", b"new" * 100)
    assert list(tmp_path.iterdir()) == [path]


def test_a_plan_is_for_its_owner_alone_also_in_the_place_of_one_that_was_not(tmp_path: Path) -> None:
    path, link = tmp_path / "plan.json", tmp_path / "link"
    path.write_bytes(b"for all")
    path.chmod(0o644)
    link.symlink_to(path)
    save(link, b"new")
    assert link.is_symlink()
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new\n", 0o600)


def test_a_plan_may_go_to_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(path := tmp_path / "pipe")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        save(path, b"plan")
        assert reader.read() == b"plan\n"

# SPDX-License-Identifier: Apache-2.0
"""Small disks, to be filled. Used by the tests of both databases."""

import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cyborg_reconciler.errors import JournalFullError
from cyborg_reconciler.ports import Event, Journal
from tests.needs import missing
from tests.postgresql import Cluster

#: It does not become small when it is compressed.
BIG = Event(datetime(2026, 1, 5, tzinfo=UTC), "big", message=random.Random(1).randbytes(50_000).hex())  # noqa: S311  no secret


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Give *place* as a file system of *size*; needs the right to mount."""
    place.mkdir()
    mounted = subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", place],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        missing("mounts", f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["/usr/bin/umount", place], check=True)
        place.rmdir()


@contextmanager
def small_database(cluster: Cluster) -> Iterator[tuple[str, Path]]:
    """Give the URL of a database, and a file that takes most of the room where the server keeps it."""
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(cluster.folder / "disk", "40m"))
        cluster.own(disk)
        cluster.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        stack.callback(cluster.execute, "DROP TABLESPACE small")
        url = stack.enter_context(cluster.database("template", "TABLESPACE small"))
        ballast = disk / "ballast"
        stack.callback(ballast.unlink)  # what the server has not written back yet finds room again
        ballast.write_bytes(bytes(25_000_000))
        yield url, ballast


def record_until_full(journal: Journal) -> int:
    """Record big events, and return how many were acknowledged."""
    for acknowledged in range(1000):
        try:
            journal.record_event(BIG)
        except JournalFullError:
            return acknowledged
    pytest.fail("it never was full")

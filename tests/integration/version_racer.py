# SPDX-License-Identifier: Apache-2.0
"""A process whose threads all raise the version of one row, and say on stdout which versions each of them raised.

Run as `python version_racer.py STATE_FOLDER DATABASE THREADS LAST`, after the row has been made (see `RACED`): it says
"ready", waits for a line, and ends when the row's version is LAST.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, select

from cyborg_reconciler.adapters.database.engine import reading, update_if, writing
from tests.integration.databases import opened_anew

RACED = Table(
    "raced",
    MetaData(),
    Column("name", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("winner", String(32), nullable=False),
)


def race(engine: Engine, name: str, last: int) -> list[int]:
    """Raise the version again and again until it is *last*, and return the versions that this thread raised."""
    raised = []
    while True:
        with reading(engine) as connection:
            seen = connection.execute(select(RACED.c.version).where(RACED.c.name == "row")).scalar_one()
        if seen >= last:
            return raised
        with writing(engine) as connection:
            has_won = update_if(connection, RACED, {"name": "row"}, seen, {"winner": name})
        if has_won:
            raised.append(seen)


def main(folder: Path, database: str, threads: int, last: int) -> None:
    """Race, and say which versions were won here."""
    with opened_anew(folder, database) as engine, ThreadPoolExecutor(threads) as pool:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        racing = [pool.submit(race, engine, f"thread {number}", last) for number in range(threads)]
        sys.stdout.write(" ".join(str(version) for won in racing for version in won.result()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

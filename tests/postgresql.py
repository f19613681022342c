# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of the tests' own: its files and its socket in a private folder, a free port of the loopback.

Used by the fixtures of `conftest`. It is ended with its process's own id, and ends by itself when the tests are killed.
"""

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

#: Where Debian keeps the server's programs, which are not for PATH.
DEBIAN = Path("/usr/lib/postgresql")
MISSING = "PostgreSQL's server is not installed (Debian: apt install postgresql)"

#: Whose the tests' databases are: an ordinary role. The other one needs a password.
ROLE = "cyborg"
GUARDED, PASSWORD = "guarded", "a secret that nobody says"

#: Small, and without what it takes to survive a power cut: no test cuts the power.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "16MB",
    "log_min_messages": "fatal",
}
START_TIMEOUT_S = 60.0

#: Rows go in any order, whoever refers to them.
FOR_EMPTYING = "-c session_replication_role=replica -c lock_timeout=1000"


def find_programs() -> Path | None:
    """Return the folder with the server's programs; None where there is none."""
    releases = sorted(DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    folders = [*releases, *([Path(on_path).resolve().parent] if on_path else [])]
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def find_port() -> int:
    """Return a port of the loopback that nobody has; not one of those that the kernel gives to clients."""
    while True:
        port = random.randint(20_000, 32_000)  # noqa: S311  no secret
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port


class Cluster:
    """A server that runs in *folder* from `start` to `stop`; as another user where the tests are root's."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder, self.port, self._programs = folder, find_port(), programs
        self._server: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._shape: set[tuple[str, str]] = set()
        self._emptied: list[str] = []
        self._user = pwd.getpwuid(os.geteuid())
        self._as_user: list[str] = []
        if self._user.pw_uid == 0:  # for whom PostgreSQL refuses to work
            self._user = next(user for user in pwd.getpwall() if user.pw_name in {"postgres", "nobody"})
            self._as_user = [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
        self.own(folder)
        # Who may look into the folder is trusted; through the port anybody comes.
        self._run(
            "initdb",
            "--auth=trust",
            "--auth-host=scram-sha-256",
            "--no-sync",
            "--no-instructions",
            "--encoding=UTF8",
            "--username=root",
        )
        access = folder / "data/pg_hba.conf"
        access.write_text(f"local all {GUARDED} scram-sha-256\n{access.read_text()}")

    def own(self, folder: Path) -> None:
        """Have *folder* belong to the server."""
        os.chown(folder, self._user.pw_uid, self._user.pw_gid)

    def _command(self, program: str, *words: str) -> list[str]:
        # When the tests are killed, the kernel interrupts the server: it then stops at once.
        return ["setpriv", *self._as_user, "--pdeathsig=INT", str(self._programs / program), *words]

    def _run(self, program: str, *words: str) -> None:
        """Run one of PostgreSQL's programs on our files."""
        command = self._command(program, *words, f"--pgdata={self.folder / 'data'}")
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Start the server, and wait until it lets somebody in."""
        settings = {**SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        words = [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "log").open("ab") as log:
            command = self._command("postgres", "-D", str(self.folder / "data"), *words)
            self._server = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url("postgres", "root")).close()
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > deadline_s:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: in order, but at once, or with SIGQUIT as if it were killed."""
        if self._server:
            self._server.send_signal(how)
            self._server.wait(START_TIMEOUT_S)
            self._server = None

    def url(self, database: str, role: str = ROLE) -> str:
        """Return the URL of *database* for *role*."""
        return f"postgresql://{role}@/{database}?host={self.folder}&port={self.port}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Have the server's owner execute *statement*."""
        with psycopg.connect(self.url(database, "root"), autocommit=True) as session:
            session.execute(statement)  # type: ignore[call-overload]  psycopg wants it spelled out in the source

    def make_template(self, fill: Callable[[str], None]) -> None:
        """Make the roles, and have *fill* make the tables of the database that others are copied from."""
        self.execute(f"CREATE ROLE {ROLE} LOGIN")
        self.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}' IN ROLE {ROLE}")
        self.execute(f"CREATE DATABASE template OWNER {ROLE}")
        fill(self.url("template"))
        with psycopg.connect(self.url("template", "root")) as session:
            self._shape = read_shape(session)

    def _create(self, template: str, more: str = "") -> str:
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template} {more}")
        return name

    @contextmanager
    def database(self, template: str = "template0", more: str = "") -> Iterator[str]:
        """Give the URL of a new database, a copy of *template*, that goes when the block is left."""
        name = self._create(template, more)
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def journal(self) -> Iterator[str]:
        """Give the URL of a database with the journal's tables, and nothing in them.

        To copy one costs a quarter of a second: one that somebody has used before is taken, where it could be emptied.
        """
        name = self._emptied.pop() if self._emptied else self._create("template")
        try:
            yield self.url(name)
        finally:
            if self._empty(name):
                self._emptied.append(name)
            else:
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _empty(self, name: str) -> bool:
        """Take all rows out of a database, and return whether it is as it was made then."""
        with psycopg.connect(self.url(name, "root"), autocommit=True, options=FOR_EMPTYING) as session:
            if read_shape(session) != self._shape:
                return False
            try:
                for table in {table for table, _ in self._shape if table != "alembic_version"}:
                    session.execute(SQL("DELETE FROM {}").format(Identifier(table)))
                for (sequence,) in session.execute("SELECT sequencename FROM pg_sequences").fetchall():
                    session.execute(SQL("ALTER SEQUENCE {} RESTART").format(Identifier(sequence)))
            except psycopg.errors.LockNotAvailable:
                return False  # a session was left open
        return True


def read_shape(session: "psycopg.Connection[tuple[str, str]]") -> set[tuple[str, str]]:
    """Return which tables a database has, with their columns, and of which revision it is."""
    columns = session.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    ).fetchall()
    if ("alembic_version", "version_num") in columns:
        columns += session.execute("SELECT 'alembic_version', version_num FROM alembic_version").fetchall()
    return set(columns)


@contextmanager
def private_cluster(programs: Path) -> Iterator[Cluster]:
    """Give a server that runs, and is gone when the block has been left."""
    folder = Path(tempfile.mkdtemp(prefix="cyborg-postgresql-"))  # pytest's own are closed to another user
    cluster = None
    try:
        cluster = Cluster(programs, folder)
        cluster.start()
        yield cluster
    finally:
        if cluster:
            cluster.stop(signal.SIGQUIT)  # nothing of it is to be kept
        shutil.rmtree(folder)

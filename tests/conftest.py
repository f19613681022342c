# SPDX-License-Identifier: Apache-2.0
"""Databases, the folder that goes with a run of the tests and all that it left, and how far hypothesis looks.

In CI it looks at the same examples each time, so that what lands is judged by what changed; elsewhere at new ones, and
with `HYPOTHESIS_PROFILE=thorough` at more, but for the few tests that say a number.

Without PostgreSQL's server its tests are skipped, or fail where CYBORG_TESTS_NEED names it, as in CI.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from cyborg_reconciler.adapters.database import postgresql as adapter
from cyborg_reconciler.adapters.database.revision import migrate
from tests.needs import missing
from tests.postgresql import MISSING, Cluster, find_programs, private_cluster
from tools.scratch import scratch

# A machine that is busy is slow, and that is no counterexample.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

settings.register_profile("default", PATIENT, max_examples=40)
settings.register_profile("ci", PATIENT, max_examples=40, derandomize=True)
settings.register_profile("thorough", PATIENT, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have the run keep its files in a folder of its own; its workers have their environment from it."""
    if not hasattr(config, "workerinput"):
        stack = ExitStack()
        folder = stack.enter_context(scratch())
        config.add_cleanup(stack.close)
        # Paths as short as they can be: that of a socket may have 107 bytes.
        config.option.basetemp = config.option.basetemp or folder / "t"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this test process."""
    programs = find_programs()
    if programs is None:
        missing("postgresql", MISSING)
    with private_cluster(programs) as cluster:
        cluster.make_template(make_tables)
        yield cluster


def make_tables(database: str) -> None:
    engine = adapter.open_engine(database, writes=True, busy_timeout_s=5)
    migrate(engine)
    engine.dispose()


@pytest.fixture
def empty_postgresql(cluster: Cluster) -> Iterator[str]:
    """The URL of a database without tables."""
    with cluster.database() as url:
        yield url


@pytest.fixture
def postgresql(cluster: Cluster) -> Iterator[str]:
    """The URL of a database with the journal's tables, and nothing in them."""
    with cluster.journal() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """What `database` says in the settings: nothing, and then a URL."""
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgresql"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest) -> str:
    """The same, of databases that have no tables yet."""
    return "" if request.param == "sqlite" else str(request.getfixturevalue("empty_postgresql"))

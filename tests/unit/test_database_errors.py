# SPDX-License-Identifier: Apache-2.0
"""What PostgreSQL's errors mean for the journal, and what is told of them."""

import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from cyborg_reconciler.adapters.database.postgresql import translate, without_password
from cyborg_reconciler.errors import (
    JournalError,
    JournalFullError,
    JournalLockedError,
    JournalUnavailableError,
)


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        (errors.AdminShutdown, JournalUnavailableError),
        (errors.CannotConnectNow, JournalUnavailableError),
        (errors.TooManyConnections, JournalUnavailableError),
        (errors.ConnectionFailure, JournalUnavailableError),
        (errors.IdleInTransactionSessionTimeout, JournalUnavailableError),
        (errors.QueryCanceled, JournalUnavailableError),
        (errors.OperationalError, JournalUnavailableError),
        (errors.LockNotAvailable, JournalLockedError),
        (errors.DeadlockDetected, JournalLockedError),
        (errors.SerializationFailure, JournalLockedError),
        (errors.DiskFull, JournalFullError),
        (errors.InsufficientPrivilege, JournalError),
        (errors.StringDataRightTruncation, JournalError),
    ],
)
def test_each_error_of_the_server_has_its_meaning(foreign: type[errors.Error], ours: type[JournalError]) -> None:
    wrapped = OperationalError if issubclass(foreign, errors.OperationalError) else DBAPIError
    found = translate(wrapped("SELECT secret", {"secret": 1}, foreign("it is\n\tas it is")), "postgresql://host/name")
    assert type(found) is ours
    assert found.line().startswith("the journal postgresql://host/name: it is as it is; ")


def test_a_connection_that_is_closed_was_lost() -> None:
    found = translate(InterfaceError("", {}, errors.InterfaceError("the connection is closed")), "")
    assert isinstance(found, JournalUnavailableError)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://host/name", "postgresql://host/name"),
        (
            "postgresql://me:hidden@[::1]:5433,other/name?sslmode=require",
            "postgresql://me@[::1]:5433,other/name?sslmode=require",
        ),
        ("postgresql:///name?host=/run/pg&p%61ssword=hidden", "postgresql:///name?host=/run/pg"),
        ("postgresql://me:hid@den@host/name?sslpassword=hidden", "postgresql://me@host/name"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown

# SPDX-License-Identifier: Apache-2.0
"""How is a line of the log written? As text for people or as JSON for programs, with the request that it is about.

Whoever starts a process that serves takes `configuration`; everybody else logs as Python's `logging` has it, and gives
what programs are to find as ``extra={"fields": {...}}``. Writes to standard error.
"""

import functools
import json
import logging
import os
import re
import select
import sys
import time
from typing import Any, Final

from cyborg_reconciler.tracing import REQUEST_ID

#: What could make one line look like two, or order a terminal about: what callers send is in the log as well.
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

#: The descriptor of standard error, and for how long it may take nothing before a line is given up.
STDERR: Final = 2
SLOWEST_S: Final = 1.0

#: In ASCII, so that nothing has to be escaped any more.
_encode: Final = json.JSONEncoder(default=str).encode


def configuration(log_format: str) -> dict[str, Any]:
    """Return what `logging.config.dictConfig` (and gunicorn) take, so that all goes to standard error in one format.

    *log_format*: ``text`` or ``json``. From here on no record says of which thread or process it is: formatters know.
    """
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    formatter = JsonFormatter if log_format == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": formatter}},
        "handlers": {
            "stderr": {"()": StandardError, "formatter": "ours"},
        },
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {
            # Gunicorn gives these handlers of its own, which go when they are named here.
            "gunicorn.error": {"handlers": [], "propagate": True},
            "gunicorn.access": {"handlers": [], "propagate": False},
            "alembic.runtime.plugins": {"level": "WARNING"},
        },
    }


class StandardError(logging.Handler):
    """Writes each line at once, as one: threads then need not wait for each other, as they would for a stream's lock.

    Where standard error is a pipe, what is longer than that takes at once (4096 bytes) may be mixed with others' lines.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        """Write *record*, and return whether it was to be written; without a lock, as `emit` needs none."""
        found: Any = self.filter(record)  # from Python 3.12 on, a filter may return a record in the place of this one
        if found:
            self.emit(found if isinstance(found, logging.LogRecord) else record)
        return bool(found)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of *record*; nowhere, where the process began without standard error."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            while line and sys.__stderr__ is not None:
                try:
                    line = line[os.write(STDERR, line) :]
                except BlockingIOError:  # somebody who shares it wants it so, and whoever reads is slow
                    if not any(select.select([], [STDERR], [], SLOWEST_S)):
                        raise
        except Exception:  # noqa: BLE001 - as each of logging's handlers does: what cannot be logged ends nobody's work
            self.handleError(record)


class TextFormatter(logging.Formatter):
    """One line: time, level, process, logger, request, message, and the fields as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; those of a traceback follow, and are indented."""
        fields = fields_of(record)
        named = f" [{fields.pop('request_id')}]" if "request_id" in fields else ""
        line = f"{time_of(record)} {record.levelname:7} [{_process()}] {record.name}:{named} {record.getMessage()}"
        for name, value in fields.items():
            line += f" {name}={value}"
        if not record.exc_info:
            return escaped(line)
        return "\n".join(map(escaped, [line, *(f"  {of_it}" for of_it in trace_of(self, record).splitlines())]))


class JsonFormatter(logging.Formatter):
    """One object of JSON a line: time, level, logger, process, message, request_id, the fields, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told = {
            "time": time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "process": _process(),
            "message": record.getMessage(),
            **fields_of(record),
        }
        trace = trace_of(self, record)
        return _encode({**told, "traceback": trace} if trace else told)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a program is to find in the line beside the message: the request that it is about comes first."""
    request_id, fields = REQUEST_ID.get(), getattr(record, "fields", {})
    return {"request_id": request_id, **fields} if request_id else {**fields}


def time_of(record: logging.LogRecord) -> str:
    """Return when it was, in UTC, to the millisecond."""
    return f"{_second(int(record.created))}.{int(record.msecs):03}Z"


@functools.lru_cache(maxsize=1)
def _second(second: int) -> str:
    """Return a second in UTC; most lines are of the same one as the line before."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@functools.cache
def _process() -> int:
    """Return the number of this process, asked for once: with each system call the kernel may let somebody else run."""
    return os.getpid()


os.register_at_fork(after_in_child=_process.cache_clear)


def trace_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return the traceback of what is told of; empty where there is none."""
    return formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


def escaped(line: str) -> str:
    r"""Return *line* with everything that is not to be written as it is in Python's spelling.

    >>> escaped("one\ntwo")
    'one\\ntwo'
    """
    if line.isprintable():  # which it mostly is, and is seen at once
        return line
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), line)

# SPDX-License-Identifier: Apache-2.0
"""How does the agent speak to its journal? One line an event, as text or as JSON, on standard error.

`process` sets it up. Whatever stands in a message, it is one line, and no order to a terminal.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

from cyborg_reconciler.agent.readers import shown

PACKAGE: Final = __name__.rpartition(".")[0]


class TextFormatter(logging.Formatter):
    """For people; systemd's journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows it as it is."""
        line = f"{record.levelname.lower()}: {shown(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """For programs, which find time and level as the server's lines have them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"time": at, "level": record.levelname, "message": shown(record.getMessage())}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said)


def set_up(kind: str, *, debug: bool) -> None:
    """Let the agent's messages out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if kind == "json" else TextFormatter())
    log = logging.getLogger(PACKAGE)
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.DEBUG if debug else logging.INFO)

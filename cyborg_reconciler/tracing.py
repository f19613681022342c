# SPDX-License-Identifier: Apache-2.0
"""For which request is this being done? Set where a request comes in; read where something is logged or recorded.

Each thread (and each task) has its own. No I/O.
"""

from contextvars import ContextVar
from typing import Final

#: Empty where it is nobody's request, as in the loop.
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")

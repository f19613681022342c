# SPDX-License-Identifier: Apache-2.0
"""For which request is this being done? Set where a request comes in; read where something is logged or recorded.

Each thread (and each task) has its own. No I/O.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

#: Empty where it is nobody's request, as in the loop.
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")


@contextmanager
def of_request(request_id: str) -> Iterator[None]:
    """Have what is done in the block be done for a request; where that is empty, for whom it was done before."""
    if not request_id:
        yield
        return
    token = REQUEST_ID.set(request_id)
    try:
        yield
    finally:
        REQUEST_ID.reset(token)

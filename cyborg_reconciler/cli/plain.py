# SPDX-License-Identifier: Apache-2.0
"""What the command line needs before it knows which command it is for: exit codes, and which signs may be shown. Pure.

Imports nothing beyond Python's library, so that a command starts where another command's libraries are missing.
"""

import re
from typing import Final

#: Exit codes, after terraform's ``-detailed-exitcode``.
DONE: Final = 0
FAILED: Final = 1
CHANGES: Final = 2
INTERRUPTED: Final = 130

#: What a terminal may take for an order: C0 but newline and tab, DEL, and C1. Source: ECMA-48. And what cannot be
#: written at all: surrogates, which stand for bytes that are no UTF-8 (in the name of a file, say).
CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
#: What stands in the place of such a character.
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """Return *text* without what a terminal may take for an order."""
    return CONTROL.sub(REPLACEMENT, text)

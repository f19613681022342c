# SPDX-License-Identifier: Apache-2.0
"""Is a body JSON, to the letter? Asked of every body that a user sends, before anything is made of it. Pure.

Parsers take more than that, each something else, and make a null or the last of two values of it: what somebody sent
would be kept as what he did not send. What agents send is read by msgspec alone, which takes no more than JSON, and
kept as it was sent.
"""

import json
import math
from typing import Any, Final, NoReturn

from cyborg_reconciler.errors import FieldError, RequestInvalidError

#: What is shown of a name or a number that is wrong.
SHOWN_CHARACTERS: Final = 60


class _OddError(Exception):
    """Some parsers read it, and JSON it is not."""


def decode(data: bytes | str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what *data* says. Source: RFC 8259; of what that leaves open, names twice and numbers without end are not.

    Raises:
        RequestInvalidError: it is no JSON.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a pair of surrogates is no text
    except _OddError as exc:
        raise RequestInvalidError("the body", [FieldError("$", str(exc))]) from exc
    except (ValueError, RecursionError) as exc:
        raise RequestInvalidError("the body", [FieldError("$", "is not JSON, or is nested too deep")]) from exc
    return value


def _block(found: list[tuple[str, Any]]) -> dict[str, Any]:
    block = dict(found)
    if len(block) < len(found):
        names = [name for name, _ in found]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"{twice[:SHOWN_CHARACTERS]} stands there twice in one block; keep one"
        raise _OddError(msg)
    return block


def _refused(word: str) -> NoReturn:
    msg = f"{word[:SHOWN_CHARACTERS]} is no number of JSON"
    raise _OddError(msg)


def _number(word: str) -> float:
    number = float(word)
    return number if math.isfinite(number) else _refused(word)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_block, parse_constant=_refused, parse_float=_number)

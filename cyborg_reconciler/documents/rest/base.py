# SPDX-License-Identifier: Apache-2.0
"""What have all bodies in common? Requests know no unknown field; answers say what is in them. Pure."""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from cyborg_reconciler.documents.base import Shape
from cyborg_reconciler.limits import MAX_DEPTH, is_deep

#: The form of a uuid in its canonical spelling; who uses it says where it begins and ends, as its parser has it.
UUID_FORM: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

#: A uuid in its canonical spelling: lower case, with dashes.
Uuid = Annotated[
    str,
    Field(
        description="A uuid, in lower case, with dashes.",
        pattern=f"^{UUID_FORM}$",
        examples=["8e45a2ea-5364-4b0d-a252-bf8becaa606e"],
        json_schema_extra={"format": "uuid"},
    ),
    Shape("a uuid in lower case, with dashes", "8e45a2ea-5364-4b0d-a252-bf8becaa606e"),
]

#: Characters of a name that people give.
MOST_OF_A_TITLE: Final = 255


def is_title(text: str) -> bool:
    r"""Return whether *text* is a name that people can give: one line, of what can be seen and not of spaces alone.

    >>> [is_title(text) for text in ("IPSec Card", "  ", "\u202edraC", "two\nlines")]
    [True, False, False, False]
    """
    return 0 < len(text) <= MOST_OF_A_TITLE and text.isprintable() and not text.isspace()


def _titled(text: str) -> str:
    if is_title(text):
        return text
    msg = "is not one line of text that can be seen"
    raise ValueError(msg)


#: A name that people give.
Title = Annotated[
    str,
    Field(min_length=1, max_length=MOST_OF_A_TITLE, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["IPSec Card"]),
    AfterValidator(_titled),
]

#: The form of a host's name; who uses it says where it begins and ends, as its parser has it.
HOST_NAME_FORM: Final = r"[^\s/\x00-\x1f\x7f]{1,255}"

#: A host's name, as the inventory has it.
HostName = Annotated[
    str,
    Field(pattern=f"^{HOST_NAME_FORM}$", examples=["compute-1"]),
    Shape("a host's name, without spaces and slashes", "compute-1"),
]


def is_shallow(tree: dict[str, Any]) -> dict[str, Any]:
    """Return *tree* where it is not nested too deep. Raises: ValueError."""
    if not is_deep(tree):
        return tree
    msg = f"nested deeper than {MAX_DEPTH} levels"
    raise ValueError(msg)


#: A free tree of names and values.
FreeTree = Annotated[dict[str, JsonValue], AfterValidator(is_shallow)]


class Request(BaseModel):
    """The base of what is sent to the API."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Answer(BaseModel):
    """The base of what the API sends; it is described here, and rendered where it is stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Link(Answer):
    """Where something related is."""

    rel: str = Field(description="What it is: self, next.", examples=["self"])
    href: str = Field(description="The path and the query.", examples=["/v1/accelerators"])


class ProblemField(Answer):
    """One thing that is wrong in a request."""

    path: str = Field(description="A JSON path, or the name of a parameter or a header.", examples=["$.acc_specs.num"])
    message: str = Field(description="What is wrong with it.", examples=['"1" is not a whole number'])


class Problem(Answer):
    """An error. Source: RFC 9457."""

    type: str = Field(description="Which kind of error.", examples=["/problems/not-found"])
    title: str = Field(description="The same in words.", examples=["Not found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What was wanted, what was found, what to do.")
    instance: str = Field(description="The path that was asked for.", examples=["/v1/accelerators/x"])
    errors: list[ProblemField] = Field(default=[], description="All that is wrong with a request.")
    request_id: str = Field(description="Under which the logs have it.")


Time = Annotated[datetime, Field(description="UTC, RFC 3339.", examples=["2026-01-05T12:00:00Z"])]

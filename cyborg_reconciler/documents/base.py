# SPDX-License-Identifier: Apache-2.0
"""What every document that people write has in common: frozen, versioned, no unknown field. Pure."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

API_VERSION: Final = "cyborg/v1"

#: A name as DNS has it; it may stand in file names and messages as it is.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$", description="lower-case letters, digits, - and .")]

#: A kernel module. The kernel takes - and _ for the same.
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

#: The name of a kernel argument or of a module's option: no white space, no quotes, nothing a shell would expand.
ArgName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]

#: The value of one: printable, one line, without quotes, backslashes, ``$`` and backquotes.
ArgValue = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f\"'\\$`]{0,512}$")]

#: Four lower-case hex digits.
PciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}$", description="four lower-case hex digits, in quotes")]

PciAddress = Annotated[str, Field(pattern=r"^[0-9a-f]{4,}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]$", description="0000:3b:00.0")]

#: A range of VF indexes: ``0-7`` or ``3``.
VfRange = Annotated[str, Field(pattern=r"^[0-9]{1,5}(-[0-9]{1,5})?$")]


class Document(BaseModel):
    """The base of all documents and of their parts."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Metadata(Document):
    """Who a document is."""

    name: Name
    description: str = ""


class Selector(Document):
    """Which hosts: keys are AND, the items of a list are OR. Names and groups may hold shell patterns."""

    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    labels: dict[str, str] = {}


Mode = Literal["enforce", "warn", "disabled"]

# SPDX-License-Identifier: Apache-2.0
"""What have all documents that people write in common? They are frozen and versioned, and know no unknown field.

Imported by the documents. Pure.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

API_VERSION: Final = "cyborg/v1"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value must look like, for people; stands beside the type's pattern.

    Attributes:
        words: completes the sentence "it is not …".
        example: a value that fits.
        mend: returns what a text that does not fit was probably meant to be.
    """

    words: str
    example: Any
    mend: Callable[[str], str] = str.strip

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the type's JSON Schema with words and example."""
        return {"description": self.words, "examples": [self.example]} | handler(core)


class DocumentError(ValueError):
    """A document contradicts itself: in which field (relative to the part that checks), how, what would be right."""

    def __init__(self, field: str, message: str, remedy: str) -> None:
        self.field, self.message, self.remedy = field, message, remedy
        super().__init__(f"{field}: {message}; {remedy}")


def _bare(text: str) -> str:
    return text.strip().lower().removeprefix("0x")


def _full_address(text: str) -> str:
    short = _bare(text)
    return short if short.count(":") > 1 else f"0000:{short}"


#: A name as DNS has it; it may stand in file names and messages as it is.
Name = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"),
    Shape(
        "a name of lower-case letters, digits, - and .",
        "qat-sriov",
        lambda text: re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-."),
    ),
]

#: A kernel module. The kernel takes - and _ for the same.
ModuleName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_-]{1,64}$"),
    Shape("the name of a kernel module or driver", "vfio-pci", lambda text: text.strip().removesuffix(".ko")),
]

#: The name of a kernel argument or of a module's option: no white space, no quotes, nothing a shell would expand.
ArgName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$"),
    Shape("a name of letters, digits, _, . and -", "intel_iommu", lambda text: text.strip().removesuffix("=")),
]

#: The value of one: printable, one line, without quotes, backslashes, ``$`` and backquotes.
ArgValue = Annotated[
    str, Field(pattern=r"^[^\x00-\x1f\x7f\"'\\$`]{0,512}$"), Shape("one line of text without quotes, \\, $ and `", "on")
]

#: Four lower-case hex digits.
PciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}$"), Shape("four lower-case hex digits in quotes", "8086", _bare)]

#: The first digits of a PCI class: base class, subclass, programming interface.
PciClass = Annotated[
    str,
    Field(pattern=r"^([0-9a-f]{2}){1,3}$"),
    Shape("two, four or six lower-case hex digits in quotes", "0b40", _bare),
]

PciAddress = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]$"),
    Shape("a full PCI address in quotes", "0000:3b:00.0", _full_address),
]

#: A range of VF indexes: ``0-7`` or ``3``.
VfRange = Annotated[
    str,
    Field(pattern=r"^[0-9]{1,5}(-[0-9]{1,5})?$"),
    Shape("a range of VF indexes in quotes", "0-7", lambda text: re.sub(r"\s*(\.\.+|:|-|to)\s*", "-", text.strip())),
]

#: A version as vendors and distributions write it.
Version = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+~:_-]{0,127}$"),
    Shape("a version in quotes: letters, digits and . + ~ : _ -", "1.2.30"),
]

#: A name with shell patterns; the marks of Ansible's own patterns are not among them.
HostPattern = Annotated[
    str,
    Field(pattern=r"^([^\s,:;&~!\[\]\\/]|\[!?[^\s,:\[\]]+\])+$"),
    Shape(
        "one name or shell pattern (with *, ? and [1-5])",
        "compute-1*",
        lambda text: re.sub(r"\[(\w+):(\w+)\]", r"[\1-\2]", text.strip()),
    ),
]

#: One line of text that is compared as it is.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,256}$"), Shape("one line of text", "crypto")]

DeviceType = Literal["GPU", "CRYPTO", "NIC", "NVME", "FPGA", "PROCESSING", "GENERIC"]

Mode = Literal["enforce", "warn", "disabled"]

#: Whether a device is to be set up and offered, is left as it is, or is not to be changed by anybody but a person.
AcceleratorState = Literal["ready", "inactive", "maintenance"]

#: An explicit list in a selector has an item: an empty one would select either nothing or everything.
NOT_EMPTY: Final = Field(min_length=1)


class Document(BaseModel):
    """The base of all documents and of their parts."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Metadata(Document):
    """Who a document is."""

    name: Name = Field(description="Unique among the documents of its kind.")
    description: str = Field("", description="For people; nothing reads it.", examples=["QAT for the crypto pool"])


class Selector(Document):
    """Which hosts: keys are AND, the items of a list are OR. `groups: [all]` is every host."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    groups: Annotated[tuple[HostPattern, ...], NOT_EMPTY] = Field(
        (),
        description="Groups of the inventory; shell patterns. All hosts are in the group all.",
        examples=[("crypto",)],
    )
    names: Annotated[tuple[HostPattern, ...], NOT_EMPTY] = Field(
        (), description="Names of the inventory; shell patterns.", examples=[("compute-1*",)]
    )
    labels: Annotated[dict[ArgName, Text], NOT_EMPTY] = Field(
        {},
        description="Labels of the inventory (`cyborg_labels`), compared as they are.",
        examples=[{"pool": "crypto"}],
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise DocumentError("", "selects no host in particular", "for every host write {groups: [all]}")
        return self

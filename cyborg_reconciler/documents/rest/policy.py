# SPDX-License-Identifier: Apache-2.0
"""What travels about policies and drivers. A policy is judged as the same document in YAML is. Pure."""

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import Field, TypeAdapter

from cyborg_reconciler.documents.declared import API_PLACE
from cyborg_reconciler.documents.parse import parse_json
from cyborg_reconciler.documents.policy import AcceleratorPolicy
from cyborg_reconciler.documents.rest.base import Answer, Link, Time
from cyborg_reconciler.documents.rest.body import decode
from cyborg_reconciler.errors import FieldError, RequestInvalidError

KIND: Final = "AcceleratorPolicy"

Owner = Literal["api", "tree", "shipped"]


@dataclass(frozen=True, slots=True)
class PolicyGiven:
    """A policy that is valid by itself.

    Attributes:
        text: the document as it was written, as one line of JSON.
    """

    document: AcceleratorPolicy
    text: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.document.metadata.name


class PolicyBody:
    """What a policy in a request must be."""

    def validate_json(self, data: bytes | str, /) -> PolicyGiven:
        """Return the policy.

        Raises:
            RequestInvalidError: it is none; all that is wrong is listed, with what would be right.
        """
        value = decode(data)
        if isinstance(value, dict) and value.get("kind") not in (None, KIND):
            remedy = f"the API takes {KIND}; other kinds stand in the tree"
            raise RequestInvalidError("the policy", [FieldError("$.kind", f"is another kind; {remedy}")])
        text = json.dumps(value, ensure_ascii=False)
        parsed = parse_json(text, API_PLACE)
        if parsed.problems:
            wrong = [
                FieldError(json_path(value, one.field), f"{one.message}; {one.remedy}" if one.remedy else one.message)
                for one in parsed.problems
            ]
            raise RequestInvalidError("the policy", wrong)
        document = parsed.documents[0].document if parsed.documents else None
        if not isinstance(document, AcceleratorPolicy):
            raise RequestInvalidError("the policy", [FieldError("$", "is empty; begin with api_version and kind")])
        return PolicyGiven(document, text)

    def json_schema(self, *, ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
        """Return its JSON Schema."""
        return TypeAdapter(AcceleratorPolicy).json_schema(ref_template=ref_template)


def json_path(value: object, field: str) -> str:
    """Return the JSON path of *field*, a dotted path in the document *value*; names may have dots themselves.

    >>> json_path({"spec": {"sriov": {"groups": [{}]}}}, "spec.sriov.groups.0.vfs")
    '$.spec.sriov.groups[0].vfs'
    """
    path, steps = "$", field.split(".") if field else []
    while steps:
        lengths = range(1, len(steps) + 1)
        known = next((n for n in lengths if isinstance(value, dict) and ".".join(steps[:n]) in value), 1)
        name, steps = ".".join(steps[:known]), steps[known:]
        if isinstance(value, list) and name.isdecimal():
            path += f"[{name}]"
            value = value[int(name)] if int(name) < len(value) else None
        else:
            path += f".{name}"
            value = value.get(name) if isinstance(value, dict) else None
    return path


class Policy(Answer):
    """A policy, and whose it is."""

    name: str = Field(description="Unique among API and tree.", examples=["qat-sriov"])
    owner: Owner = Field(description="api: it can be changed here. tree: it stands in a file.", examples=["api"])
    file: str | None = Field(description="The tree's file.", examples=["policies/qat.yml"])
    also_in: str | None = Field(
        description="The tree's file that has one of this name too: nothing is reconciled until one of them is gone."
    )
    policy: dict[str, Any] = Field(description="The document, as it stands in YAML.")
    created_at: Time | None = Field(description="When it was declared, where the API has it.")
    updated_at: Time | None = Field(description="When it was last changed, where the API has it.")
    links: list[Link]


class PolicyList(Answer):
    """A page of policies."""

    policies: list[Policy]
    links: list[Link]


class DriverShown(Answer):
    """A driver of the catalogue, and whose it is."""

    name: str = Field(description="By which policies call it.", examples=["virtio-crypto"])
    owner: Owner = Field(description="shipped: it came with this release.", examples=["shipped"])
    file: str | None = Field(description="The tree's file.", examples=["policies/edu.yml"])
    driver: dict[str, Any] = Field(description="The document, as it stands in YAML.")
    links: list[Link]


class DriverList(Answer):
    """A page of drivers."""

    drivers: list[DriverShown]
    links: list[Link]

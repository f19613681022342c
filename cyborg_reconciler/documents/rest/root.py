# SPDX-License-Identifier: Apache-2.0
"""What travels about the server itself: its versions, and whether it works. Pure.

Source: OpenStack's API guidelines, "API Discoverability".
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cyborg_reconciler.documents.rest.base import Answer, Link


class Version(Answer):
    """A version of the API."""

    id: str = Field(description="Which one.", pattern="^v[0-9]+\\.[0-9]+$", examples=["v1.0"])
    status: Literal["CURRENT", "SUPPORTED", "EXPERIMENTAL", "DEPRECATED"] = Field(
        description="Whether to use it: CURRENT is the one to begin with.", examples=["CURRENT"]
    )
    links: list[Link] = Field(description="self: where it is; collection: where all versions are told.")


class Versions(Answer):
    """The versions of the API."""

    versions: list[Version]


class OneVersion(Answer):
    """One version of the API."""

    version: Version


class Probe(Answer):
    """That the server works."""

    status: Literal["alive", "ready"] = Field(description="How it is.", examples=["ready"])


class OpenApi(BaseModel):
    """A description of the API. Source: OpenAPI 3.1."""

    model_config = ConfigDict(extra="allow", frozen=True)

    openapi: str = Field(description="The version of OpenAPI.", examples=["3.1.0"])
    info: dict[str, Any] = Field(description="What this API is, and of which version.")
    paths: dict[str, Any] = Field(description="Every path, with its operations.")

# SPDX-License-Identifier: Apache-2.0
"""`Driver`: how one family of devices is supported; an entry of the catalogue. Pure."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from cyborg_reconciler.documents.base import (
    API_VERSION,
    NOT_EMPTY,
    DeviceType,
    Document,
    DocumentError,
    Metadata,
    ModuleName,
    PciClass,
    PciId,
    Shape,
    Version,
)

#: A role by its full name; it reaches Ansible as it is.
RoleName = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"),
    Shape("the full name of a role: namespace.collection.role", "openstack.cyborg.driver_module"),
]

#: The role that builds, installs and removes what `dkms` names.
DKMS_ROLE: Final = "openstack.cyborg.driver_dkms"

Feature = Literal["driver", "kernel_args", "kernel_modules", "sriov", "binding"]


class Match(Document):
    """Which devices the driver is for: keys are AND, the items of a list are OR."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    vendor_id: PciId | None = Field(None, description="The vendor.", examples=["8086"])
    product_id: Annotated[tuple[PciId, ...], NOT_EMPTY] = Field(
        (), description="The products.", examples=[("4940", "4942")]
    )
    class_id: PciClass | None = Field(
        None, alias="class", description="The first digits of the class.", examples=["0b40"]
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise DocumentError("", "matches nothing", "give vendor_id, product_id or class")
        return self


class Roles(Document):
    """The roles that install, verify and remove the driver, each given `cyborg_driver`. Without: nothing is installed.

    One role may serve for all three: it is told the state, ``present``, ``verified`` or ``absent``.
    """

    install: RoleName = Field(description="Makes the driver be there.")
    verify: RoleName | None = Field(
        None,
        description="Runs after the installation, changes nothing, and fails where the driver is not well.",
        examples=["openstack.cyborg.driver_module"],
    )
    uninstall: RoleName = Field(description="Takes it away.")


class DkmsSource(Document):
    """A source tree with a dkms.conf, on the controller; relative to the document's own file."""

    path: Annotated[str, Field(pattern=r"^[^\x00]{1,4096}$"), Shape("a path", "edu-1.0")] = Field(
        description="The folder that holds dkms.conf, relative to this file."
    )
    package: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9._+-]{1,64}$"), Shape("a package's name: letters, digits, . _ + and -", "edu")
    ] = Field(description="The name that dkms.conf gives itself (PACKAGE_NAME).")


class DriverDocSpec(Document):
    """What the driver is."""

    device_type: DeviceType = Field(description="The type of the devices it is for.", examples=["CRYPTO"])
    match: tuple[Match, ...] = Field(
        (), description="Rules, of which one must match; none: every device.", examples=[({"vendor_id": "8086"},)]
    )
    kernel_module: ModuleName | None = Field(
        None, description="The module that drives the devices.", examples=["virtio_crypto"]
    )
    version: Version | None = Field(None, description="The version that the roles install.", examples=["1.0"])
    features: tuple[Feature, ...] = Field(
        (),
        description="What can be declared for the devices that `match` names: of sriov and binding, what is not listed "
        "waits as Unsupported. Without: anything.",
        examples=[("driver", "sriov")],
    )
    conflicts: tuple[ModuleName, ...] = Field(
        (), description="Modules that must not hold the devices.", examples=[("nouveau",)]
    )
    roles: Roles | None = Field(
        None,
        description="Who installs, verifies and removes it. With dkms and without roles: openstack.cyborg.driver_dkms.",
        examples=[{"install": "openstack.cyborg.driver_module", "uninstall": "openstack.cyborg.driver_module"}],
    )
    dkms: DkmsSource | None = Field(
        None,
        description="The driver's source, built on the hosts by DKMS.",
        examples=[{"path": "edu-1.0", "package": "edu"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _dkms_has_its_role(cls, value: Any) -> Any:  # noqa: ANN401 - whatever somebody wrote; pydantic judges it next
        if isinstance(value, dict) and value.get("dkms") is not None and "roles" not in value:
            return value | {"roles": {"install": DKMS_ROLE, "uninstall": DKMS_ROLE}}
        return value

    @model_validator(mode="after")
    def _dkms_says_what_it_builds(self) -> Self:
        if self.dkms is not None:
            for field in ("kernel_module", "version"):
                if getattr(self, field) is None:
                    raise DocumentError(field, "is missing; a driver with dkms needs it", "say what dkms.conf builds")
        return self


class Driver(Document):
    """A catalogue entry."""

    api_version: Literal["cyborg/v1"] = Field(API_VERSION, description="The version of this document.")
    kind: Literal["Driver"] = Field(description="The kind of this document.")
    metadata: Metadata = Field(description="Its name, by which policies call it.", examples=[{"name": "edu"}])
    spec: DriverDocSpec = Field(description="What the driver is.", examples=[{"device_type": "CRYPTO"}])

# SPDX-License-Identifier: Apache-2.0
"""What have operators declared over the API without writing a policy? Drivers on hosts, states, attachments to hosts.

`bootstrap` puts `WithImplied` around the tree of policies, so that all who look at hosts see the same. All I/O goes
through the stores.
"""

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from cyborg_reconciler.documents.base import API_VERSION, Metadata, Selector
from cyborg_reconciler.documents.declared import IMPLIED_PLACE, Declared, Located
from cyborg_reconciler.documents.driver import DriverDocSpec
from cyborg_reconciler.documents.policy import AcceleratorPolicy, Binding, DeviceSelector, DriverSpec, PolicySpec
from cyborg_reconciler.ports import Declarations
from cyborg_reconciler.stores.accelerators import Accelerator, ObservedAccelerators, State
from cyborg_reconciler.stores.work import HostDriver, HostDriverStore

#: How the names of policies begin that nobody wrote.
IMPLIED_PREFIX: Final = "api"

#: Lower than any that can be written: a policy that somebody wrote always wins. That a driver is to be on a host, or
#: not, is said of that driver; that a device is to be ready asks for whichever driver is for it, and gives way.
OF_DRIVERS: Final = -1
OF_ACCELERATORS: Final = -2

#: The most characters that a policy's name has, and those of the digest where it has to be cut.
NAME_LENGTH: Final = 63
DIGEST_LENGTH: Final = 8

#: Policies of devices that are remembered.
REMEMBERED: Final = 65_536

Catalogue = Mapping[str, DriverDocSpec]


class WithImplied:
    """What a tree declares, and what is declared over the API beside it.

    Where the tree holds no document at all, nothing that was set is undone: it may be the wrong one, or not be mounted.
    """

    def __init__(self, tree: Declarations, drivers: HostDriverStore, accelerators: ObservedAccelerators) -> None:
        self._tree, self._drivers, self._accelerators = tree, drivers, accelerators

    def read(self) -> Declared:
        """Return all that is declared now. The digest is the tree's: what is implied changes hosts one by one.

        Raises:
            DeclarationsInvalidError: the tree has problems.
        """
        declared = self._tree.read()
        catalogue = catalogue_of(declared)
        implied = read_implied(self._drivers, self._accelerators, catalogue)
        if not implied:
            return declared
        return replace(
            declared,
            policies=tuple(sorted((*declared.policies, *implied), key=lambda one: one.document.metadata.name)),
            prunes=declared.prunes and bool(declared.digest),
        )

    def stamp(self) -> str:
        """Return what changes when the tree does; what is declared over the API has its hosts enqueued instead."""
        return self._tree.stamp()


def catalogue_of(declared: Declared) -> Catalogue:
    """Return the drivers that there are, by name; of two of one name the first counts."""
    return {one.document.metadata.name: one.document.spec for one in reversed(declared.drivers)}


def read_implied(
    drivers: HostDriverStore, accelerators: ObservedAccelerators, catalogue: Catalogue
) -> tuple[Located[AcceleratorPolicy], ...]:
    """Return what is declared over the API without a policy, as policies; one for each driver and accelerator."""
    policies = (
        *(of_driver(one, catalogue) for one in drivers.declared()),
        *(of_accelerator(one, catalogue) for one in accelerators.implying()),
    )
    return tuple(Located(policy, IMPLIED_PLACE) for policy in policies if policy is not None)


def of_driver(one: HostDriver, catalogue: Catalogue) -> AcceleratorPolicy | None:
    """Return what is declared of a driver on a host; None when the catalogue has the driver no more."""
    spec = catalogue.get(one.driver)
    if spec is None:
        return None
    # What is built from a source has the version of that source.
    version = spec.version if one.version is not None and spec.dkms is not None else one.version
    driver = DriverSpec(name=one.driver, state=one.state, version=version)
    return _policy(name_of("driver", one.host, one.driver), one.host, OF_DRIVERS, driver=driver)


def of_accelerator(one: Accelerator, catalogue: Catalogue) -> AcceleratorPolicy | None:
    """Return what is declared of an accelerator at an address of a host; None where nothing is."""
    if one.host is None or one.address is None:
        return None
    state = one.desired_state if one.desired_state != "inactive" and not one.state_policy else None
    ids = (one.vendor_id, one.product_id)
    bound_to = binding_of(one, catalogue) if one.present and not one.binding_policy else None
    return _of_device(name_of("accelerator", one.uuid), (one.host, one.address), ids, state, bound_to)


@functools.lru_cache(maxsize=REMEMBERED)
def _of_device(
    name: str, place: tuple[str, str], ids: tuple[str | None, str | None], state: State | None, bound_to: str | None
) -> AcceleratorPolicy | None:
    """Return the policy for a device. Remembered: of thousands few change between two looks."""
    host, address = place
    said: dict[str, Any] = {"state": state, "binding": Binding(driver=bound_to) if bound_to else None}
    said = {field: value for field, value in said.items() if value is not None}
    given: dict[str, Any] = dict(zip(("vendor_id", "product_id"), ids, strict=True))
    given = {field: value for field, value in given.items() if value is not None}
    if not said:
        return None
    try:
        devices = DeviceSelector(addresses=(address,), **given)
    except ValidationError:  # it was found at what is no address: nothing can be declared of it
        return None
    return _policy(name, host, OF_ACCELERATORS, device_selector=devices, **said)


def binding_of(one: Accelerator, catalogue: Catalogue) -> str | None:
    """Return what the device of an accelerator is to be bound to, since it is attached to its host; None: to nothing.

    That is its driver's module; of a driver without one, and of a VF, whatever the kernel binds it to.
    """
    if one.attachment is None or one.attachment.host is None or one.attachment.host != one.host:
        return None
    return module_of(one, catalogue)


def module_of(one: Accelerator, catalogue: Catalogue) -> str | None:
    """Return the module whose driver an accelerator is for on its own host; None: whatever the kernel binds it to."""
    spec = None if one.parent is not None else catalogue.get(one.driver or "")
    return spec.kernel_module if spec else None


def name_of(*parts: str) -> str:
    """Return the name of a policy that nobody wrote.

    >>> name_of("driver", "compute-1", "qat")
    'api.driver.compute-1.qat'
    >>> name_of("driver", "Compute_1", "qat")
    'api.driver.compute-1.qat-7108e24e'
    """
    whole = ".".join((IMPLIED_PREFIX, *parts))
    plain = re.sub(r"[^a-z0-9.]+", "-", whole.lower())
    if plain == whole and len(plain) <= NAME_LENGTH:
        return plain
    digest = hashlib.sha256(whole.encode()).hexdigest()[:DIGEST_LENGTH]
    return f"{plain[: NAME_LENGTH - DIGEST_LENGTH - 1].rstrip('.-')}-{digest}"


def _policy(name: str, host: str, priority: int, **said: Any) -> AcceleratorPolicy:  # noqa: ANN401 - fields of a policy
    # Just this host, whatever its name: one that people could not write in a policy has one all the same.
    pattern = re.sub(r"([*?[])", r"[\1]", host)
    selector = Selector.model_construct(_fields_set={"names"}, names=(pattern,), groups=(), labels={})
    spec = PolicySpec(host_selector=selector, **said).model_copy(update={"priority": priority})
    return AcceleratorPolicy(api_version=API_VERSION, kind="AcceleratorPolicy", metadata=Metadata(name=name), spec=spec)

# SPDX-License-Identifier: Apache-2.0
"""What do many documents declare together, and where do they contradict each other?

Called by the adapters that read declarations, once every document is valid by itself. Pure.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from cyborg_reconciler.documents.declared import Declared, Document, Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.judge import closest
from cyborg_reconciler.documents.policy import AcceleratorPolicy
from cyborg_reconciler.documents.pool import RolloutPool
from cyborg_reconciler.errors import Problem

T = TypeVar("T", AcceleratorPolicy, Driver, RolloutPool)

_DECLARES = ("state", "driver", "kernel_args", "kernel_modules", "sriov", "binding")


def assemble(
    documents: Sequence[Located[Document]], catalogue: Sequence[Located[Driver]], named: Collection[str] = ()
) -> tuple[Declared, tuple[Problem, ...]]:
    """Return what *documents* declare, with the shipped *catalogue*, and where they contradict each other.

    Shape: documents are ordered by name, a user's drivers before the shipped ones; one of the same name takes the place
    of a shipped one. The digest is of contents alone, whatever the files, their order and their comments; it is empty
    when nothing is declared. *named*: drivers that are not among the documents only because they have problems.
    """
    policies = _by_name(documents, AcceleratorPolicy)
    own = _by_name(documents, Driver)
    names = {located.document.metadata.name for located in own}
    shipped = [located for located in catalogue if located.document.metadata.name not in names]
    drivers = (*own, *shipped)
    problems = (*_twins(documents), *_unknown_drivers(policies, drivers, named))
    warnings = (*_replaced(own, catalogue), *_idle(policies))
    digest = digest_of([located.document for located in (*documents, *shipped)]) if documents else ""
    pools = _by_name(documents, RolloutPool)
    return Declared(policies, drivers, pools, digest, warnings), problems


def digest_of(documents: Sequence[Document]) -> str:
    """Return sha256 over the documents' contents, in hex. What has its default value counts as not written."""
    contents = [document.model_dump(mode="json", by_alias=True, exclude_defaults=True) for document in documents]
    rows = sorted(json.dumps(content, sort_keys=True, separators=(",", ":")) for content in contents)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _by_name(documents: Sequence[Located[Document]], kind: type[T]) -> tuple[Located[T], ...]:
    """Return those of one *kind*, by name."""
    chosen = [
        Located(located.document, located.file, located.lines)
        for located in documents
        if isinstance(located.document, kind)
    ]
    return tuple(sorted(chosen, key=lambda located: located.document.metadata.name))


def _twins(documents: Sequence[Located[Document]]) -> Iterator[Problem]:
    """Yield documents whose kind and name another one has."""
    first: dict[tuple[str, str], Located[Document]] = {}
    for located in documents:
        document = located.document
        other = first.setdefault((document.kind, document.metadata.name), located)
        if other is not located:
            message = f"the {document.kind} {document.metadata.name} stands here and in {_place(other)}"
            yield _problem(located, "metadata.name", message, "rename one of them, or remove it")


def _unknown_drivers(
    policies: Sequence[Located[AcceleratorPolicy]], drivers: Sequence[Located[Driver]], named: Collection[str]
) -> Iterator[Problem]:
    """Yield policies that name a driver that there is not, or a version that its source does not have."""
    known = {located.document.metadata.name: located for located in drivers}
    for policy in policies:
        wanted = policy.document.spec.driver
        driver = known.get(wanted.name) if wanted else None
        if wanted is None or (driver is None and wanted.name in named):
            continue
        if driver is None:
            close = closest(wanted.name, list(known))
            remedy = (
                f"did you mean {close}?" if close else f"declare it with kind: Driver; there are {', '.join(known)}"
            )
            yield _problem(policy, "spec.driver.name", f"there is no driver {wanted.name}", remedy)
            continue
        spec = driver.document.spec
        if spec.dkms is not None and wanted.version not in (None, spec.version):
            message = f"{wanted.name} is {spec.version} in {_place(driver)}, not {wanted.version}"
            yield _problem(policy, "spec.driver.version", message, f'write "{spec.version}", or leave version out')


def _replaced(own: Sequence[Located[Driver]], catalogue: Sequence[Located[Driver]]) -> Iterator[Problem]:
    """Yield a user's drivers that take the place of shipped ones."""
    shipped = {located.document.metadata.name for located in catalogue}
    for located in own:
        name = located.document.metadata.name
        if name in shipped:
            message = f"{name} takes the place of the driver that is shipped under this name"
            yield _problem(located, "metadata.name", message, "rename it unless that is meant")


def _idle(policies: Sequence[Located[AcceleratorPolicy]]) -> Iterator[Problem]:
    """Yield policies that declare nothing."""
    for policy in policies:
        if not any(getattr(policy.document.spec, feature) for feature in _DECLARES):
            yield _problem(
                policy, "spec", "declares nothing", f"add one of {', '.join(_DECLARES)}, or remove the policy"
            )


def _problem(located: Located[Document], field: str, message: str, remedy: str) -> Problem:
    return Problem(located.file, located.line(field), field, message, remedy)


def _place(located: Located[Document]) -> str:
    line = located.line("metadata.name")
    return f"{located.file}:{line}" if line else located.file

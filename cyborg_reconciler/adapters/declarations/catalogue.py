# SPDX-License-Identifier: Apache-2.0
"""Which drivers does this release bring along?

Reads the package's own data, once a process. Called by `yaml`, and by whoever shows the catalogue.
"""

import functools
from importlib import resources

from cyborg_reconciler.documents.declared import SHIPPED_PLACE, Located
from cyborg_reconciler.documents.driver import Driver
from cyborg_reconciler.documents.parse import parse_documents
from cyborg_reconciler.errors import DeclarationsInvalidError, Problem


@functools.cache
def read_catalogue() -> tuple[Located[Driver], ...]:
    """Return the shipped drivers, by name.

    Raises:
        DeclarationsInvalidError: the installation is damaged.
    """
    drivers: list[Located[Driver]] = []
    problems: list[Problem] = []
    folder = resources.files("cyborg_reconciler.documents") / "catalogue"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yml"):
            parsed = parse_documents(entry.read_text(encoding="utf-8"), f"{SHIPPED_PLACE}{entry.name}")
            problems.extend(parsed.problems)
            drivers.extend(
                Located(located.document, located.file, located.lines)
                for located in parsed.documents
                if isinstance(located.document, Driver)
            )
    if problems or not drivers:
        missing = Problem("(shipped)", 0, "", "the catalogue of drivers cannot be read", "install the program again")
        raise DeclarationsInvalidError(problems or [missing])
    return tuple(drivers)

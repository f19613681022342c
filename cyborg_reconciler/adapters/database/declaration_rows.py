# SPDX-License-Identifier: Apache-2.0
"""What does the database know of what was declared? The statements about declarations.

Called by the journal and the stores, inside their transactions.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, select

from cyborg_reconciler.adapters.database.schema import declarations
from cyborg_reconciler.documents.driver import Driver, DriverDocSpec

#: Yields the digest of what was declared last. Made once: making it takes longer than running it.
NEWEST: Final = select(declarations.c.digest).order_by(declarations.c.first_seen_at.desc()).limit(1)


def read_catalogue(connection: Connection) -> dict[str, DriverDocSpec]:
    """Return the drivers of what was declared last, by name; none before anything was."""
    digest = connection.execute(NEWEST).scalar()
    if digest is None:
        return {}
    if (known := _catalogues.get(digest)) is None:
        document = connection.execute(select(declarations.c.document).where(declarations.c.digest == digest)).scalar()
        _catalogues.clear()
        known = _catalogues[digest] = _parse_catalogue(document or "[]")
    return known


#: The catalogue of the newest declarations, by their digest: decoded once a process.
_catalogues: dict[str, dict[str, DriverDocSpec]] = {}


def _parse_catalogue(document: str) -> dict[str, DriverDocSpec]:
    found: dict[str, DriverDocSpec] = {}
    for one in msgspec.json.decode(document):
        if one["document"].get("kind") == "Driver":
            driver = Driver.model_validate(one["document"], strict=False)  # it was judged when it was declared
            found.setdefault(driver.metadata.name, driver.spec)  # the first counts, as in `compile_policies`
    return found

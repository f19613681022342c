# SPDX-License-Identifier: Apache-2.0
"""How is a page of a list read by its key, and rendered? Used by the stores."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select

from cyborg_reconciler.stores.pages import PageQuery


def read_page(
    connection: Connection, query: Select[Any], key: ColumnElement[Any], wanted: PageQuery, marker: object
) -> tuple[Sequence[Row[Any]], bool]:
    """Return the rows of *query* after *marker* (None: from the beginning), by *key*, and whether there are more."""
    if marker is not None:
        query = query.where(key < marker if wanted.descending else key > marker)
    order = key.desc() if wanted.descending else key.asc()
    rows = connection.execute(query.order_by(order).limit(wanted.limit + 1)).all()
    return rows[: wanted.limit], len(rows) > wanted.limit


def render(value: Mapping[str, Any]) -> str:
    """Return *value* as JSON."""
    return msgspec.json.encode(value).decode()


def raw(text: str) -> msgspec.Raw:
    """Return what is JSON already."""
    return msgspec.Raw(text.encode())


def link(path: str, rel: str = "self") -> Mapping[str, str]:
    """Return a link as the API gives it."""
    return {"rel": rel, "href": path}

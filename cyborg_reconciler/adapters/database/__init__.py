# SPDX-License-Identifier: Apache-2.0
"""The journal in a database: SQLite in the state folder, through SQLAlchemy Core, with its migrations beside it.

`bootstrap` calls `open_journal` (one writer a folder) or `open_reader` (as many as like); the rest is not public.
"""

from cyborg_reconciler.adapters.database.fleet import Fleet
from cyborg_reconciler.adapters.database.journal import DatabaseJournal, open_journal, open_reader

__all__ = ["DatabaseJournal", "Fleet", "open_journal", "open_reader"]

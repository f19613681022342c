# SPDX-License-Identifier: Apache-2.0
"""The revisions, one a module, named as they are ordered. A published one is never changed. Run by alembic."""

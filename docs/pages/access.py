# SPDX-License-Identifier: Apache-2.0
"""Who may call what? The page of roles, from the table of routes by which they are enforced. Called by `generate`."""

from typing import Final

from cyborg_reconciler.conductor.callers import Role
from cyborg_reconciler_api.app import all_operations
from cyborg_reconciler_api.operation import Access
from docs.pages.markdown import code, page, table

INTRODUCTION = """
Each operation of the REST API asks for a role at least; a role includes those to its left. The API reads this very
table for each request. Whoever sends no valid token gets 401, and whose role is too small 403, and both are in the
audit trail. An operation that says so of itself looks closer: a member changes what is attached to his own project.
"""
AFTER = """
*Agents* are let in with their own host's token, which opens nothing else, and users' tokens open nothing of theirs.
*Anybody* needs no token. A *manager* is the user with elevated privileges of Cyborg's specifications.
With `auth` none every request is an admin's that comes from this machine, is for `localhost` or a loopback address
(`Host`), and is sent by no page of another site (`Origin`, `Sec-Fetch-Site`); others get 403.
[How to run the API](../how-to/run-the-api.md) says how tokens are made.
"""
YES: Final = "yes"


def render() -> str:
    """Return the page."""
    head = ["call", "what it does", *map(str, Role), "agent", "anybody"]
    rows = [
        (f"{code(f'{method} {path}')}", one.summary, *marks(one.access))
        for path, method, one in sorted(all_operations(), key=lambda each: each[:2])
    ]
    return page("Who may call what", INTRODUCTION, table(head, rows), AFTER)


def marks(access: Access) -> list[str]:
    """Return, for each role, an agent and anybody, whether they are let in."""
    by_role = [YES if access == "anybody" or (access != "agent" and role >= access) else "" for role in Role]
    return [*by_role, YES if access in {"agent", "anybody"} else "", YES if access == "anybody" else ""]

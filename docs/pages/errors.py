# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, and what next? The page of errors and of reasons to wait. Called by `generate`.

Reads the source, to say which reasons the plan gives and which the modules on the hosts do.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from cyborg_reconciler import errors
from cyborg_reconciler.core.state import Plan, Reason, Wait
from cyborg_reconciler.core.verdict import judge, unobserved
from cyborg_reconciler.documents.plan import Outcome, StepOutcome
from docs.pages.markdown import cell, code, page, table
from docs.pages.settings import parse_attributes

ROOT = Path(__file__).resolve().parents[2]
CONTROLLER = ROOT / "cyborg_reconciler"
ON_HOSTS = ROOT / "collections/ansible_collections/openstack/cyborg/plugins/module_utils"
#: Where reasons are named and weighed, not given.
NOT_GIVING = {"state.py", "verdict.py"}

ERRORS = """
An error is one line: where, what was wanted, what was found, what to do. With `--output json` it is an object with
the same fields, and `--debug` adds the traceback. *stall* waits for a person; *retry* may go away by itself, and the
loop tries again at its next turn.
"""
REASONS = """
A host that is not as declared says why. *In the plan* says that planning gives the reason, from facts; *on the host*
that a module may refuse with it when it looks again right before it writes. Neither: the word is kept for what is
still to come. [Troubleshooting](../how-to/troubleshoot.md) says what to do about each.
"""
OUTCOMES = """
What came out of a run for a host. Whether it is as declared is not told by this, but by the facts that are gathered
afterwards.
"""


def render() -> str:
    """Return the page."""
    tree = table(["error", "next", "what it is", "what to do"], hierarchy(errors.ReconcilerError, 0))
    reasons = table(["reason", "sync", "health", "in the plan", "on the host"], map(reason_row, all_reasons()))
    outcomes = "\n\n".join(
        [
            f"For a host: {cell(parse_attributes(Outcome.__doc__ or '')['status'])}",
            f"For a step: {', '.join(map(code, StepOutcome.__annotations__['status'].__args__))}.",
        ]
    )
    return page(
        "Errors and reasons to wait",
        ERRORS,
        "## Errors",
        tree,
        "## Reasons to wait",
        REASONS,
        reasons,
        "## Outcomes",
        OUTCOMES,
        outcomes,
    )


def hierarchy(error: type[errors.ReconcilerError], depth: int) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for *error* and for all below it."""
    indent = "&emsp;" * depth
    words = cell(inspect.cleandoc(error.__doc__ or "").partition("\n\n")[0])
    yield f"{indent}{code(error.__name__)}", error.next_step.value, words, cell(error.remedy)
    for child in error.__subclasses__():
        yield from hierarchy(child, depth + 1)


def all_reasons() -> list[str]:
    """Return the reasons of the plan, and then those that only the modules give."""
    known = [str(reason) for reason in Reason]
    return [*known, *sorted(set(read_given_on_hosts()) - set(known))]


def reason_row(name: str) -> tuple[str, str, str, str, str]:
    """Return what is to be said of one reason."""
    planned = name in {str(reason) for reason in Reason}
    sync, health = verdict_of(Reason(name)) if planned else ("", "")
    in_plan = planned and Reason(name).name in read_given_in_plans()
    link = f"[{name}](../how-to/troubleshoot.md#{name.lower()})"
    return link, sync, health, "yes" if in_plan else "", "yes" if name in read_given_on_hosts() else ""


def verdict_of(reason: Reason) -> tuple[str, str]:
    """Return sync and health of a host that waits for *reason* and nothing else."""
    wait = Wait(reason, "")
    alone = unobserved(wait) if reason is Reason.UNREACHABLE else judge(Plan("host", 1, "", waits=(wait,)))
    return str(alone.sync), str(alone.health)


def read_given_in_plans() -> set[str]:
    """Return the names of the reasons that the controller's own code gives."""
    files = [*(CONTROLLER / "core").rglob("*.py"), CONTROLLER / "survey.py", CONTROLLER / "reconcile.py"]
    texts = [path.read_text(encoding="utf-8") for path in files if path.name not in NOT_GIVING]
    return {name for text in texts for name in re.findall(r"\bReason\.([A-Z_]+)\b", text)}


def read_given_on_hosts() -> set[str]:
    """Return the reasons that modules refuse with."""
    texts = [path.read_text(encoding="utf-8") for path in ON_HOSTS.glob("*.py")]
    return {name for text in texts for name in re.findall(r"Refusal\(\s*\"(\w+)\"", text)}

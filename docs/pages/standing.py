# SPDX-License-Identifier: Apache-2.0
"""Where can a host stand? The page of phases and conditions. Called by `generate`."""

from cyborg_reconciler.core.conditions import MEANINGS, Condition, Status
from cyborg_reconciler.core.state import PHASES
from docs.pages.markdown import cell, code, page, table
from docs.pages.settings import parse_attributes

INTRODUCTION = """
What `cyborg-reconciler status` shows of a host, from the journal; nothing is asked of the host. *sync* and *health* are
told with the [reasons](errors.md#reasons-to-wait).
"""
PHASE_TEXT = """
Where in its change a host is. While a wave is changed its hosts go through the phases from `Cordoning` to `Validating`
together, but for those that reboot and those that fail. What a process left that was killed is put right at the next
start of `apply` or `run`: such a host is `Failed`, with the phase in which it was left, until it is seen as declared.
"""
CONDITION_TEXT = """
What is true of a host, after the conventions of Kubernetes: a list with one condition of each type. `status HOST` shows
it, and `status --output json` and the API have it for all hosts as `conditions`. Of a host that could not be observed
nothing is known, and the reason says why: `Unreachable`, say. `AgentSilent` alone is not of the last look, and is there
only where an agent speaks for the host and has reported once.
"""
FIELDS_TEXT = """
Each condition has these fields beside its type:
"""


def render() -> str:
    """Return the page."""
    phases = [(code(phase), words) for phase, words in PHASES.items()]
    conditions = [(code(type_), *map(cell, meaning)) for type_, meaning in MEANINGS.items()]
    known = {"status": ", ".join(map(code, Status)), **parse_attributes(Condition.__doc__ or "")}
    fields = [(code(name), cell(words)) for name, words in known.items()]
    return page(
        "Where a host stands",
        INTRODUCTION,
        "## Phases",
        PHASE_TEXT,
        table(["phase", "what it means"], phases),
        "## Conditions",
        CONDITION_TEXT,
        table(["type", "True", "False", "Unknown"], conditions),
        FIELDS_TEXT,
        table(["field", "what it says"], fields),
    )

# SPDX-License-Identifier: Apache-2.0
"""How is a plan saved, and is a saved one still what would be planned?

Called by `reconcile`, the CLI and the conductor. Pure, but for the clock and a new uuid.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from cyborg_reconciler.core.plan import to_document
from cyborg_reconciler.core.state import Reason
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.documents.plan import PLAN_VERSION, HostPlan, PlanDocument, RebootSegment
from cyborg_reconciler.errors import PlanOutdatedError
from cyborg_reconciler.ports import Clock, Controller
from cyborg_reconciler.survey import HostView, Options, Survey, reboot_terms


class Planner(Protocol):
    """Who plans, and when. The ports of a survey are one."""

    @property
    def controller(self) -> Controller:
        """Who writes."""

    @property
    def clock(self) -> Clock:
        """What time it is."""


def plan_document(views: Sequence[HostView], declared: Declared, planner: Planner, options: Options) -> PlanDocument:
    """Return the plans of *views* in the form in which they travel and are saved."""
    hosts: dict[str, HostPlan] = {
        view.host.name: to_document(view.plan, view.desired, view.subject, reboot_terms(view.pool, options))
        for view in views
        if view.desired is not None and view.subject is not None
    }
    return PlanDocument(
        plan_version=PLAN_VERSION,
        uuid=str(uuid.uuid4()),
        created_at=planner.clock.now().isoformat(),
        controller_id=planner.controller.id,
        fencing_token=planner.controller.fencing_token,
        hosts=hosts,
        policies_digest=declared.digest,
    )


def only(seen: Survey, plan: PlanDocument) -> Survey:
    """Return *seen* cut down to what a saved *plan* does.

    Raises:
        PlanOutdatedError: it is no longer what would be planned.
    """
    hosts: dict[str, HostView] = {}
    for name, saved in plan.hosts.items():
        view = seen.hosts.get(name)
        if view is None:
            raise PlanOutdatedError(host=name, wanted="the host of the saved plan", found="it is not in the inventory")
        if view.plan.generation != saved.generation and plan.policies_digest != seen.declared.digest:
            found = f"generation {view.plan.generation} is declared now"
            raise PlanOutdatedError(host=name, wanted=f"generation {saved.generation}", found=found)
        if view.plan.digest != saved.digest:
            raise PlanOutdatedError(host=name, wanted="the saved plan", found=_what_differs(saved, view))
        hosts[name] = view
    return replace(seen, hosts=hosts, limited=True)


def _what_differs(saved: HostPlan, view: HostView) -> str:
    """Return why the plan of a host is not the *saved* one."""
    stale = next((wait for wait in view.plan.waits if wait.reason is Reason.FACTS_STALE), None)
    if stale is not None:
        return stale.message
    if any(isinstance(segment, RebootSegment) for segment in saved.segments) and not view.plan.reboots:
        return "it reboots the host, which is not allowed now: add --allow-reboot"
    return "the host, or what is to be done, changed"

# SPDX-License-Identifier: Apache-2.0
"""Whether a host is as declared, and how it is doing. Pure.

Judged from a plan that was made on fresh facts, never from a return code.
"""

from dataclasses import dataclass

from cyborg_reconciler.core.state import Health, Plan, Reason, Sync, Wait

#: Waits that are a person's own wish rather than trouble.
WISHED = frozenset({Reason.SUSPENDED, Reason.MODE_WARN})

#: Waits that end by themselves, or by a person's consent.
PATIENT = frozenset({Reason.WAITING_FOR_SLOT, Reason.WINDOW_CLOSED, Reason.PENDING_APPROVAL, Reason.REBOOT_NOT_ALLOWED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a host stands; *waits* say why it is not further."""

    sync: Sync
    health: Health
    waits: tuple[Wait, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether everything declared is so."""
        return self.sync is Sync.SYNCED


def judge(plan: Plan) -> Verdict:
    """Return where the host of *plan* stands."""
    reasons = {wait.reason for wait in plan.waits}
    if plan.blind_spots or reasons & {Reason.UNKNOWN, Reason.FACTS_STALE}:
        return Verdict(Sync.UNKNOWN, Health.UNKNOWN, plan.waits)
    if not plan.actions and not plan.waits:
        return Verdict(Sync.SYNCED, Health.HEALTHY)
    if not reasons:
        return Verdict(Sync.OUT_OF_SYNC, Health.PROGRESSING)
    if reasons <= WISHED and not plan.actions:
        return Verdict(Sync.OUT_OF_SYNC, Health.SUSPENDED, plan.waits)
    if reasons <= WISHED | PATIENT:
        return Verdict(Sync.OUT_OF_SYNC, Health.PROGRESSING, plan.waits)
    return Verdict(Sync.OUT_OF_SYNC, Health.DEGRADED, plan.waits)


def unobserved(wait: Wait) -> Verdict:
    """Return the verdict of a host that could not be observed, or not be assigned."""
    health = Health.MISSING if wait.reason is Reason.UNREACHABLE else Health.UNKNOWN
    return Verdict(Sync.UNKNOWN, health, (wait,))

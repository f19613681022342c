# SPDX-License-Identifier: Apache-2.0
"""What is true of a host: each type of condition, by stories of hosts."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cyborg_reconciler.core.conditions import (
    MEANINGS,
    Condition,
    ConditionType,
    Standing,
    Status,
    after_failure,
    conditions_of,
)
from cyborg_reconciler.core.state import Phase, Plan, Reason, Wait
from cyborg_reconciler.core.verdict import judge, unobserved
from tests.scenarios.story import NOW, looked_at

LATER = NOW + timedelta(minutes=5)
VFS = {"policy": {"name": "qat", "sriov": {"num_vfs": 2}}}
THERE = {"device": {"num_vfs": 2, "boot_num_vfs": 2}}
ARGS = {"policy": {"kernel_args": {"iommu": "pt"}}, "reboot": {"allowed": True}}
OUT = {"policy": {"kernel_modules": {"blacklist": ["nouveau"]}}}
OPTION = {"policy": {"kernel_modules": {"options": {"nvme": {"poll_queues": 4}}}}, "reboot": {"allowed": True}}
SYNCED = {"history": {"was_synced": True}}

#: The types that a look at a host judges.
LOOKED_AT = [one for one in ConditionType if one is not ConditionType.AGENT_SILENT]


def standing_of(given: dict[str, Any], phase: Phase = Phase.IDLE, failed_in: Phase | None = None) -> Standing:
    desired, subject, plan = looked_at(given)
    wait = next(iter(plan.waits), None)
    was_synced = given.get("history", {}).get("was_synced", False)
    return Standing(plan, judge(plan), phase, wait, was_synced, failed_in, desired, subject)


def shown(found: tuple[Condition, ...]) -> dict[str, tuple[str, str]]:
    return {str(one.type): (str(one.status), one.reason) for one in found}


def judged(given: dict[str, Any], phase: Phase = Phase.IDLE, failed_in: Phase | None = None):
    return shown(conditions_of(standing_of(given, phase, failed_in), (), NOW))


UNREACHABLE = Standing(
    Plan("compute-7", 0, "", waits=(Wait(Reason.UNREACHABLE, "no route to host"),)),
    unobserved(Wait(Reason.UNREACHABLE, "no route to host")),
    Phase.IDLE,
    Wait(Reason.UNREACHABLE, "no route to host"),
)


def test_of_a_host_that_is_as_declared_everything_is_well() -> None:
    assert judged({**VFS, "host": THERE}) == {
        "Ready": ("True", "Synced"),
        "Drifted": ("False", "Synced"),
        "Progressing": ("False", "NothingToDo"),
        "Degraded": ("False", "NoTrouble"),
        "Paused": ("False", "NothingHeldBack"),
        "RebootRequired": ("False", "NothingPending"),
    }


def test_of_a_host_that_could_not_be_observed_nothing_is_known_and_the_reason_says_why() -> None:
    found = conditions_of(UNREACHABLE, (), NOW)
    assert shown(found) == dict.fromkeys(LOOKED_AT, ("Unknown", "Unreachable"))
    assert {one.message for one in found} == {"no route to host"}


def test_a_change_that_failed_is_known_even_where_the_host_does_not_answer_any_more() -> None:
    found = shown(conditions_of(replace(UNREACHABLE, failed_in=Phase.REBOOTING), (), NOW))
    assert found["Degraded"] == ("True", "ChangeFailed")
    assert found["Ready"] == ("Unknown", "Unreachable")


@pytest.mark.parametrize(
    ("given", "phase", "wanted"),
    [
        (VFS, Phase.PLANNED, {"Ready": ("False", "OutOfSync"), "Progressing": ("True", "Planned")}),
        (VFS, Phase.WAITING_FOR_SLOT, {"Progressing": ("True", "WaitingForSlot")}),
        (VFS, Phase.APPLYING, {"Ready": ("False", "OutOfSync"), "Progressing": ("True", "Changing")}),
        (VFS, Phase.PLANNED, {"Drifted": ("False", "NotYetSynced"), "Degraded": ("False", "NoTrouble")}),
        ({**VFS, **SYNCED}, Phase.PLANNED, {"Drifted": ("True", "ChangedSinceSynced")}),
        (
            {**VFS, "history": {"was_synced": True, "failures": 5}},
            Phase.IDLE,
            {"Drifted": ("True", "ChangedSinceSynced"), "Degraded": ("True", "RetriesExhausted")},
        ),
        (
            {**VFS, **SYNCED, "host": {"owned": {"0000:6b:00.0 sriov num_vfs": 0}, "owner": "they"}},
            Phase.IDLE,
            {"Drifted": ("Unknown", "Conflicted"), "Degraded": ("True", "Conflicted")},
        ),
        (
            {**VFS, "host": {"device": {"protected": [{"reason": "default_route"}]}}},
            Phase.IDLE,
            {
                "Ready": ("False", "ProtectedDevice"),
                "Progressing": ("False", "ProtectedDevice"),
                "Degraded": ("True", "ProtectedDevice"),
            },
        ),
        (
            {**VFS, "host": {"device": {"num_vfs": {"unknown": "EIO"}}}},
            Phase.IDLE,
            {"Ready": ("Unknown", "Unknown"), "Degraded": ("Unknown", "Unknown"), "Drifted": ("Unknown", "Unknown")},
        ),
        (
            {"policy": {"suspend": True, "sriov": {"num_vfs": 2}}, "host": THERE},
            Phase.IDLE,
            {"Paused": ("True", "Suspended"), "Ready": ("True", "Synced")},
        ),
        (
            {"policy": {"mode": "warn", "sriov": {"num_vfs": 2}}},
            Phase.IDLE,
            {"Paused": ("True", "ModeWarn"), "Ready": ("False", "ModeWarn"), "Degraded": ("False", "NoTrouble")},
        ),
        ({"policy": {"mode": "warn", "sriov": {"num_vfs": 2}}, "host": THERE}, Phase.IDLE, {"Paused": ("False",)}),
        (
            {"policy": {"state": "maintenance"}},
            Phase.IDLE,
            {"Paused": ("True", "Suspended"), "Ready": ("True", "Synced"), "Degraded": ("False", "NoTrouble")},
        ),
        (
            {**VFS, "connection": False},
            Phase.IDLE,
            {"Ready": ("False", "NoConnection"), "Degraded": ("True", "NoConnection"), "Progressing": ("False",)},
        ),
    ],
)
def test_a_condition_says_what_is_so_and_why(given: dict[str, Any], phase: Phase, wanted: dict[str, Any]) -> None:
    found = judged(given, phase)
    assert {type_: found[type_][: len(said)] for type_, said in wanted.items()} == wanted


def test_a_message_names_some_of_the_differences_and_counts_the_rest() -> None:
    given = {"policy": {"kernel_args": {"iommu": "pt", "a": "1", "b": "2"}}, "reboot": {"allowed": True}}
    ready = conditions_of(standing_of(given, Phase.PLANNED), (), NOW)[0]
    assert ready.message.startswith("kernel_args.boot.")
    assert ready.message.endswith("; and 3 more")


# ------------------------------------------------------------------------------------------------------- RebootRequired
NOUVEAU = {"name": "nouveau", "loaded": True, "refcount": 1, "holders": [{"kind": "process", "name": "X", "pid": 5}]}
NVME = {"name": "nvme", "loaded": True, "parameters": {"poll_queues": "0"}}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (ARGS, ("False", "NothingPending")),  # a reboot is planned; nothing is configured that would want it yet
        ({**ARGS, "host": {"kernel": {"next_boot": "iommu=pt"}}}, ("True", "ConfiguredNotRunning")),
        ({**ARGS, "host": {"kernel": {"args": "iommu=pt"}}}, ("False", "NothingPending")),
        (  # those that nobody declares are nobody's business: boot loaders add words of their own
            {**ARGS, "host": {"kernel": {"next_boot": "iommu=pt splash", "running": "iommu=pt BOOT_IMAGE=/v"}}},
            ("False", "NothingPending"),
        ),
        ({**ARGS, "reboot": {}, "host": {"kernel": {"next_boot": "iommu=pt"}}}, ("True", "ConfiguredNotRunning")),
        (
            {**ARGS, "history": {"failures": 5}, "host": {"kernel": {"next_boot": "iommu=pt"}}},
            ("True", "ConfiguredNotRunning"),
        ),
        ({**ARGS, "host": {"kernel": {"running": {"unknown": "EIO"}}}}, ("Unknown", "Unknown")),
        ({**OPTION, "host": {"modules": [NVME], "drivers": {"options": {"nvme": {"poll_queues": "4"}}}}}, ("True",)),
        ({**OPTION, "host": {"modules": [NVME]}}, ("False",)),
        ({**OUT, "host": {"modules": [NOUVEAU], "drivers": {"blacklisted": ["nouveau"]}}}, ("True",)),
        ({**OUT, "host": {"modules": [NOUVEAU]}}, ("False",)),
        (  # it is unloaded by the plan, without a reboot
            {
                **OUT,
                "host": {"modules": [{"name": "nouveau", "loaded": True}], "drivers": {"blacklisted": ["nouveau"]}},
            },
            ("False",),
        ),
        ({**VFS, "host": {**THERE, "drivers": {"initramfs_due": ["nouveau"]}}}, ("True", "InitramfsDue")),
        ({**VFS, "host": {**THERE, "drivers": {"initramfs_due": {"unknown": "EIO"}}}}, ("Unknown", "Unknown")),
    ],
)
def test_a_reboot_is_required_where_what_is_configured_does_not_run(given: dict[str, Any], wanted: tuple) -> None:
    assert judged(given)["RebootRequired"][: len(wanted)] == wanted


def test_it_is_said_what_does_not_run() -> None:
    found = conditions_of(standing_of({**ARGS, "host": {"kernel": {"next_boot": "iommu=pt"}}}), (), NOW)
    assert found[-1].message == "configured, and not so in the running kernel: kernel_args.iommu"


# ------------------------------------------------------------------------------------------------------------ over time
def test_a_status_keeps_the_time_since_which_it_is_so_whatever_its_reason() -> None:
    first = conditions_of(standing_of(VFS, Phase.PLANNED), (), NOW)
    second = conditions_of(standing_of({**VFS, "host": THERE}, Phase.PLANNED), first, LATER)
    assert {str(one.type): one.last_transition_time for one in second} == {
        "Ready": LATER,
        "Drifted": NOW,
        "Progressing": NOW,
        "Degraded": NOW,
        "Paused": NOW,
        "RebootRequired": NOW,
    }
    assert conditions_of(standing_of({**VFS, "host": THERE}, Phase.PLANNED), second, LATER + timedelta(1)) == second


def test_a_host_out_of_sight_was_judged_by_its_last_generation() -> None:
    first = conditions_of(standing_of({**VFS, "history": {"generation": 3}}), (), NOW)
    assert {one.observed_generation for one in first} == {3}
    assert {one.observed_generation for one in conditions_of(UNREACHABLE, first, LATER)} == {3}


def test_a_change_that_was_broken_off_goes_on_no_more_and_all_else_is_as_it_was_seen_last() -> None:
    seen = conditions_of(standing_of(VFS, Phase.APPLYING), (), NOW)
    after = after_failure(seen, Phase.APPLYING, LATER)
    assert shown(after) == {
        **shown(seen),
        "Progressing": ("False", "ChangeFailed"),
        "Degraded": ("True", "ChangeFailed"),
    }
    assert {str(one.type) for one in after if one.last_transition_time == LATER} == {"Progressing", "Degraded"}


def test_every_type_has_its_meaning_and_every_condition_its_reason() -> None:
    assert set(MEANINGS) == set(ConditionType)
    found = conditions_of(standing_of(VFS), (), NOW)
    assert [one.type for one in found] == LOOKED_AT
    assert all(one.reason.isalpha() and one.reason[0].isupper() for one in found)
    assert {one.status for one in found} <= set(Status)

# SPDX-License-Identifier: Apache-2.0
"""What people and programs read of a plan."""

from cyborg_reconciler.cli.render import footer, plan_text
from cyborg_reconciler.core.resolve import Desired
from cyborg_reconciler.core.rollout import DEFAULT_POOL
from cyborg_reconciler.core.state import Host, Plan, Reason, Wait
from cyborg_reconciler.core.subject import lay_out
from cyborg_reconciler.core.verdict import judge, unobserved
from cyborg_reconciler.documents.declared import Declared
from cyborg_reconciler.survey import HostView, Survey
from cyborg_reconciler.survey_data import plan_data
from tests.scenarios.story import facts_of, plan_of, policy_of

VFS = {"name": "qat", "sriov": {"num_vfs": 4}}


def view_of(given: dict) -> HostView:
    plan = plan_of(given)
    subject = lay_out(facts_of(given.get("host", {})), {})
    desired = Desired({}, {}, policies=frozenset({"qat"}))
    return HostView(Host("compute-7"), DEFAULT_POOL, plan, judge(plan), desired, subject)


def survey_of(*views: HostView) -> Survey:
    return Survey(Declared(policies=(policy_of(VFS, 1),)), {view.host.name: view for view in views})


def test_one_line_says_what_runs_and_what_the_next_boot_makes() -> None:
    text = plan_text(survey_of(view_of({"policy": VFS}))).plain
    assert text.splitlines()[0].split() == ["compute-7", "OutOfSync", "pool", "default"]
    assert "~ 0000:6b:00.0  CRYPTO 8086:4940" in text
    assert "qat.yml:6" in text
    lines = [line.split() for line in text.splitlines() if "num_vfs" in line]
    assert lines == [["sriov.num_vfs", "0", "→", "4", "device_reset"]]
    assert text.splitlines()[-1].startswith("Plan: ")
    assert text.splitlines()[-1].endswith("on 1 host.")


def test_a_change_of_the_next_boot_alone_says_so() -> None:
    kernel = {"args_running": ["iommu=pt"], "args_next_boot": []}
    text = plan_text(survey_of(view_of({"policy": {"kernel_args": {"iommu": "pt"}}, "host": {"kernel": kernel}}))).plain
    assert "(none) → pt at the next boot" in text


def test_a_wait_is_told_under_its_change() -> None:
    text = plan_text(survey_of(view_of({"policy": {"name": "qat", "sriov": {"num_vfs": 99}}}))).plain
    assert "waits: Unsupported: num_vfs 99 exceeds the 16 that the device supports" in text
    assert text.splitlines()[-1] == "1 change waits."


def test_the_last_line_alone_is_enough() -> None:
    synced = HostView(Host("a"), DEFAULT_POOL, Plan("a", 1, "f"), judge(Plan("a", 1, "f")))
    wait = Wait(Reason.UNREACHABLE, "no route to host")
    lost = HostView(Host("b"), DEFAULT_POOL, Plan("b", 0, "", waits=(wait,)), unobserved(wait))
    assert footer(survey_of(synced)) == "Nothing to do. 1 host is Synced."
    assert footer(survey_of(synced, lost)) == "1 host is Synced. 1 host is Unknown."


def test_programs_get_paths_values_and_where_they_were_declared() -> None:
    data = plan_data(survey_of(view_of({"policy": VFS})))
    change = data["hosts"][0]["actions"][0]["changes"][-1]
    assert change == {
        "path": ["0000:6b:00.0", "sriov", "num_vfs"],
        "observed": 0,
        "desired": 4,
        "policy": "qat",
        "file": "qat.yml",
        "line": 6,
    }
    assert data["summary"]["hosts_changing"] == 1


def test_without_a_policy_there_is_a_warning() -> None:
    assert "no policy is declared" in plan_text(Survey(Declared(), {})).plain

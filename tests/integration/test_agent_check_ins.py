# SPDX-License-Identifier: Apache-2.0
"""An agent on a simulated host and its conductor: look-up, hello, check-ins, outages, kills, rotated tokens.

Real processes and real HTTP; the conductor is a stand-in that speaks the wire between the two.
"""

import json
import signal
from contextlib import suppress

import pytest

from cyborg_reconciler.simulation import nic_1, write_tree
from tests.disks import small_disk
from tests.integration.agent_support import AgentProcess
from tests.integration.fake_conductor import ENROLMENT, FIRST_TOKEN, FakeConductor

NUMVFS = "sys/bus/pci/devices/0000:ca:00.1/sriov_numvfs"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The tree of a host with an SR-IOV NIC; no process plays its kernel, so tests write its files as they like."""
    root = tmp_path_factory.mktemp("hosts") / "nic-1"
    write_tree(nic_1(), root)
    return root


@pytest.fixture
def conductor():
    with FakeConductor() as conductor:
        yield conductor


@pytest.fixture
def agent(tmp_path, conductor, root):
    with AgentProcess.make(tmp_path / "agent", conductor, root) as agent:
        yield agent


def set_vfs(root, count):
    """Change what the agent finds, as a write to the kernel does."""
    path = root / NUMVFS
    path.chmod(0o644)
    path.write_text(f"{count}\n")


def vfs_in(body):
    """Return the VFs of the port in the facts of a check-in."""
    return next(device["num_vfs"] for device in body["facts"]["devices"] if device["address"] == "0000:ca:00.1")


def test_the_first_check_in_has_the_facts_and_the_second_only_their_fingerprint(agent, conductor):
    conductor.wait_for(lambda: conductor.check_ins(facts=False))
    lookup, hello, first, second, *_ = conductor.said
    assert (lookup.path, lookup.token, hello.path, hello.token) == ("/v1/lookup", ENROLMENT, "/v1/hello", FIRST_TOKEN)
    assert lookup.body["inventory"]["hostname"] == "nic-1"
    assert hello.body == {"status": "READY", "endpoint": f"nic-1:{agent.port}"}
    assert first.body["facts"]["fingerprint"] == first.body["fingerprint"] == second.body["fingerprint"]
    assert (first.body["sequence"], second.body["sequence"]) == (1, 2)
    assert first.body["epoch"] == second.body["epoch"]
    assert "facts" not in second.body
    assert (agent.folder / "state/identity.json").stat().st_mode & 0o777 == 0o600
    assert not list((agent.folder / "state/spool").iterdir())
    assert agent.end() == 0


def test_a_change_that_the_kernel_tells_no_event_of_is_reported_at_once(tmp_path, root):
    with FakeConductor(interval_s=3600) as conductor, AgentProcess.make(tmp_path / "agent", conductor, root):
        conductor.wait_for(lambda: conductor.check_ins(facts=True))
        set_vfs(root, 3)
        _, changed = conductor.wait_for(lambda: len(conductor.check_ins(facts=True)) == 2 and conductor.check_ins())
        assert vfs_in(changed) == 3
        assert changed["sequence"] == 2
        modules = root / "proc/modules"
        modules.write_text(f"{modules.read_text()}pcieportdrv 65536 0 - Live 0x0000000000000000\n")
        conductor.wait_for(lambda: len(conductor.check_ins(facts=True)) == 3)
        told = {one["name"]: one["loaded"] for one in conductor.check_ins()[-1]["facts"]["drivers"]["modules"]}
        assert told["pcieportdrv"] is True


def test_a_signal_has_the_agent_look_at_once(tmp_path, root):
    with (
        FakeConductor(interval_s=3600) as conductor,
        AgentProcess.make(tmp_path / "agent", conductor, root, poll_interval_s=3600) as agent,
    ):
        conductor.wait_for(lambda: conductor.check_ins(facts=True))
        set_vfs(root, 5)
        agent.signal(signal.SIGHUP)
        _, changed = conductor.wait_for(lambda: len(conductor.check_ins(facts=True)) == 2 and conductor.check_ins())
        assert vfs_in(changed) == 5


def test_what_a_killed_agent_could_not_deliver_reaches_the_conductor_before_what_is_so_now(agent, conductor, root):
    conductor.wait_for(lambda: conductor.check_ins(facts=True))
    conductor.go_away()
    set_vfs(root, 6)
    agent.wait_for_line("warning: the check-in")
    spool = agent.folder / "state/spool"
    [waiting] = [path for path in spool.iterdir() if vfs_in(json.loads(path.read_bytes().partition(b"\n")[2])) == 6]
    agent.kill()
    assert waiting.exists()
    set_vfs(root, 7)
    conductor.come_up()
    agent.start()
    conductor.wait_for(lambda: [body for body in conductor.check_ins(facts=True) if vfs_in(body) == 7])
    late, newest = conductor.check_ins(facts=True)[-2:]
    assert (vfs_in(late), vfs_in(newest)) == (6, 7)
    assert (late["epoch"], late["sequence"]) < (newest["epoch"], newest["sequence"])
    assert newest["sequence"] == 1
    assert [said.path for said in conductor.said].count("/v1/lookup") == 1


def test_what_an_agent_on_a_full_disk_sees_is_told_with_what_could_not_be_kept_also_after_a_kill(
    tmp_path, conductor, root
):
    with (
        small_disk(tmp_path / "disk", "256k") as disk,
        AgentProcess.make(tmp_path / "agent", conductor, root, state_dir=disk / "state") as agent,
    ):
        conductor.wait_for(lambda: conductor.check_ins(facts=False))  # what was spooled is gone
        conductor.go_away()
        with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        set_vfs(root, 4)
        agent.wait_for_line("spool.*: No space left on device; kept in memory until it can be written")
        agent.kill()
        agent.start()
        conductor.come_up()
        [told] = conductor.wait_for(lambda: [one for one in conductor.check_ins(facts=True) if vfs_in(one) == 4])
        assert [reason for reason in told["unread"] if "cannot be written; kept in memory" in reason]
        (disk / "filler").unlink()
        agent.wait_for_line("is written now")
        conductor.wait_for(lambda: "cannot be written" not in str(conductor.check_ins()[-1]["unread"]))
        assert [said.path for said in conductor.said].count("/v1/lookup") == 1


def test_a_conductor_that_comes_back_gets_the_newest_state(agent, conductor, root):
    conductor.wait_for(lambda: conductor.check_ins(facts=True))
    conductor.go_away()
    set_vfs(root, 1)
    agent.wait_for_line("warning: the check-in")
    set_vfs(root, 2)
    conductor.come_up()
    conductor.wait_for(lambda: [body for body in conductor.check_ins(facts=True) if vfs_in(body) == 2])
    order = [(body["epoch"], body["sequence"]) for body in conductor.check_ins()]
    assert order == sorted(order)


def test_a_conductor_that_lost_its_state_asks_for_the_facts_and_gets_them(agent, conductor):
    conductor.wait_for(lambda: conductor.check_ins(facts=False))
    conductor.known = None
    conductor.wait_for(lambda: len(conductor.check_ins(facts=True)) == 2)
    [refused] = conductor.check_ins(status=409)
    assert "facts" not in refused


def test_an_agent_on_a_disk_that_was_rolled_back_goes_on_after_a_refusal(agent, conductor):
    conductor.wait_for(lambda: conductor.check_ins(facts=False))
    epoch = conductor.check_ins()[-1]["epoch"]
    conductor.latest = (epoch, 1_000)
    conductor.wait_for(lambda: conductor.check_ins()[-1]["epoch"] > epoch)
    assert "facts" in next(body for body in conductor.check_ins() if body["epoch"] > epoch)


def test_a_token_is_rotated_without_a_moment_in_which_none_is_stored(agent, conductor):
    conductor.wait_for(conductor.check_ins)
    conductor.tokens.add("token-2")
    conductor.commands = [{"id": 1, "command": "rotate_token", "driver": None, "token": "token-2"}]
    conductor.wait_for(lambda: any(said.token == "token-2" for said in conductor.said))
    conductor.tokens.discard(FIRST_TOKEN)
    agent.kill()
    count = len(conductor.said)
    agent.start()
    conductor.wait_for(lambda: len(conductor.said) >= count + 2)
    assert {said.token for said in conductor.said[count:]} == {"token-2"}
    assert not [line for line in agent.lines if "token-2" in line or FIRST_TOKEN in line or ENROLMENT in line]


def test_hostile_answers_are_survived(agent, conductor):
    conductor.refusals.extend((500, {}, "\x1b[2J\nfalse: line") for _ in range(2))
    conductor.commands = [{"id": "one"}, 5, {"id": 2, "command": "explode\n"}, {"id": 3, "command": "rotate_token"}]
    conductor.wait_for(lambda: conductor.check_ins(facts=False))
    assert all(line.isprintable() for line in agent.lines)
    agent.wait_for_line(r"command 2 \(explode\\n\) is none")


def test_a_conductor_that_is_busy_is_left_alone_for_as_long_as_it_asks_for(agent, conductor):
    conductor.wait_for(lambda: conductor.check_ins(facts=False))
    conductor.refusals.append((429, {"Retry-After": "2"}, "busy"))  # by itself it would wait a second at most
    agent.wait_for_line("the check-in: .* answers 429: .*; again in 2 s")
    count = len(conductor.said)
    conductor.wait_for(lambda: len(conductor.said) > count)
    assert not [line for line in agent.lines if "again in 1 s" in line]


def test_a_second_agent_on_the_same_folder_is_refused(agent, conductor, root):
    conductor.wait_for(conductor.check_ins)
    second = AgentProcess.make(agent.folder, conductor, root, state_dir=agent.folder / "state").start()
    assert second.process.wait(60) == 1
    second.wait_for_line("another agent works in it")

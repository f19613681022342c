# SPDX-License-Identifier: Apache-2.0
"""What the answers to check-ins ask for, and what becomes of it: done once, and said until the conductor has heard."""

from dataclasses import replace

from cyborg_reconciler.agent.conductor import Command
from cyborg_reconciler.agent.observer import ALL
from tests.unit.test_agent_reporter import INTERVAL_S, no, tokens, world

__all__ = ["world"]


def test_commands_are_carried_out_once(world):
    discover = Command(1, "discover")
    world.conductor.commands = [discover, Command(2, "discover", "dummy"), Command(3, "discover", "nobody")]
    world.settle()
    world.conductor.commands = [discover, Command(4, "explode"), Command(5, "rotate_token", token="two words")]
    world.step(INTERVAL_S)
    assert world.watch.asked == [ALL, "dummy"]
    assert world.reporter.identity.token == "first"


def test_a_command_that_comes_again_since_an_answer_was_lost_is_done_once_also_after_a_restart(world):
    world.conductor.commands = [Command(7, "discover")]
    world.settle()
    assert world.watch.asked == [ALL]
    world.restart()
    world.conductor.commands = [Command(7, "discover"), Command(8, "discover", "dummy")]
    world.settle()
    assert world.watch.asked == [ALL, "dummy"]
    world.step(INTERVAL_S)
    world.step(INTERVAL_S)
    assert [body["done"] for body in world.conductor.taken] == [[], [7], [7, 8], []]


def test_a_token_that_is_told_again_is_another_and_the_last_one_counts(world):
    world.conductor.commands = [Command(1, "rotate_token", token="lost")]
    world.settle()
    world.conductor.answers.append(no(401))
    world.conductor.commands = [Command(1, "rotate_token", token="told-again")]
    world.step(INTERVAL_S)
    assert tokens(world) == ("told-again", "first")
    world.conductor.tokens = {"told-again"}
    world.step(INTERVAL_S)
    assert tokens(world) == ("told-again", None)
    assert all(body["done"] == [] for body in world.conductor.taken)


def test_what_drivers_found_is_told_once_it_changed_and_what_is_wanted_is_passed_on(world):
    world.settle()
    [found] = world.conductor.taken[-1]["hardware"]
    assert (found["driver"], found["devices"][0]["address"]) == ("dummy", "dummy:0")
    assert found["devices"][0]["acc_status"] == {"setup_required": True, "reboot_required": False, "health": "Healthy"}
    assert world.step(10) > 0
    facts = world.watch.latest.facts
    world.watch.latest = replace(world.watch.latest, remote={"outside": []})
    world.settle()
    assert world.conductor.taken[-1]["hardware"][1] == {"driver": "outside", "devices": []}
    assert "facts" not in world.conductor.taken[-1]
    assert world.watch.latest.facts is facts
    assert world.watch.wanted == [(None, None)] * 2


def test_facts_that_are_asked_for_are_sent_at_once(world):
    world.settle()
    world.conductor.commands = [Command(1, "send_facts")]
    assert world.step(INTERVAL_S) == 0
    world.settle()
    assert world.conductor.places() == [(0, 1, True), (0, 2, False), (0, 3, True)]

# SPDX-License-Identifier: Apache-2.0
"""What does a line of the log look like, for people and for programs?"""

import json
import logging
import os
import subprocess
import sys

import pytest

from cyborg_reconciler.agent.log import JsonFormatter as AgentJsonFormatter
from cyborg_reconciler.logs import JsonFormatter, TextFormatter, configuration
from cyborg_reconciler.tracing import REQUEST_ID

REQUEST = "req-6f2d1f2e-3b0c-4c1e-9a53-0d0f6f1f8c11"


@pytest.fixture
def request_id():
    token = REQUEST_ID.set(REQUEST)
    yield REQUEST
    REQUEST_ID.reset(token)


def record(message, *args, fields=None, exc_info=None):
    made = logging.LogRecord("cyborg_reconciler.test", logging.INFO, __file__, 1, message, args, exc_info)
    made.created, made.msecs = 1767614400.123, 123.0
    if fields:
        made.fields = fields
    return made


def test_a_line_for_people_has_the_request_and_the_fields(request_id):
    line = TextFormatter().format(record("answered %d", 5, fields={"status": 200}))
    head = f"2026-01-05T12:00:00.123Z INFO    [{os.getpid()}] cyborg_reconciler.test:"
    assert line == f"{head} [{REQUEST}] answered 5 status=200"


def test_a_line_for_programs_is_one_object(request_id):
    assert json.loads(JsonFormatter().format(record("answered %d", 5, fields={"status": 200}))) == {
        "time": "2026-01-05T12:00:00.123Z",
        "level": "INFO",
        "logger": "cyborg_reconciler.test",
        "process": os.getpid(),
        "message": "answered 5",
        "request_id": REQUEST,
        "status": 200,
    }


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child calls nothing that another thread may hold
def test_the_line_of_a_process_that_was_forked_has_its_own_number():
    formatter, (reads, writes) = TextFormatter(), os.pipe()
    formatter.format(record("before"))
    if not (child := os.fork()):
        try:
            os.write(writes, formatter.format(record("after")).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writes)
    assert f"[{child}]".encode() in os.read(reads, 4096)
    os.close(reads)


def test_an_agents_line_is_told_as_a_servers_is():
    agents, servers = (json.loads(one().format(record("heard"))) for one in (AgentJsonFormatter, JsonFormatter))
    assert agents == {name: servers[name] for name in ("time", "level", "message")}


def test_what_is_done_for_nobodys_request_names_none():
    assert "req-" not in TextFormatter().format(record("looked"))
    assert "request_id" not in json.loads(JsonFormatter().format(record("looked")))


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_what_a_caller_sends_makes_neither_a_second_line_nor_an_order_to_the_terminal(formatter):
    sent = "/x\n2026-01-05T12:00:00.000Z INFO forged\x1b[2J\u2028\x9b\udcff"
    line = formatter.format(record("%s", sent, fields={"path": sent}))
    assert line.isprintable()
    line.encode()


def fail():
    message = "in two\nlines"
    raise ValueError(message)


@pytest.fixture
def failure():
    try:
        fail()
    except ValueError:
        return sys.exc_info()


def test_a_traceback_is_indented_for_people_and_a_field_for_programs(failure):
    first, *others = TextFormatter().format(record("failed", exc_info=failure)).splitlines()
    assert first.endswith("failed")
    assert all(line.startswith("  ") for line in others)
    told = json.loads(JsonFormatter().format(record("failed", exc_info=failure)))
    assert told["traceback"].endswith("ValueError: in two\nlines")


@pytest.mark.parametrize(("log_format", "formatter"), [("text", TextFormatter), ("json", JsonFormatter)])
def test_the_format_is_chosen_by_a_word(log_format, formatter):
    assert configuration(log_format)["formatters"]["ours"]["()"] is formatter


#: Logs from several threads at once, and then something that cannot be told.
CROWD = """
import logging.config, threading
from cyborg_reconciler.logs import configuration

logging.config.dictConfig(configuration("text"))
log = logging.getLogger("crowd")
speak = lambda name: [log.info(name * 3000) for _ in range(200)]
speakers = [threading.Thread(target=speak, args=(name,)) for name in "abcd"]
for one in speakers:
    one.start()
for one in speakers:
    one.join()
log.info("%d", "not a number")
log.info("the end")
"""


def test_lines_of_many_threads_stay_apart_and_one_that_fails_ends_nothing(tmp_path):
    with (tmp_path / "log").open("w") as to:
        subprocess.run([sys.executable, "-c", CROWD], stderr=to, check=True)
    said = [line.rpartition("crowd: ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    whole = [name * 3000 for name in "abcd" for _ in range(200)]
    assert sorted(line for line in said if len(line) >= 3000) == whole
    assert any("not a number" in line for line in said)
    assert said[-1] == "the end"


#: Logs to a pipe that does not block, more than it takes at once.
IMPATIENT = f"import os\nos.set_blocking(2, False)\n{CROWD}"

#: Logs where descriptor 2 is a file of the process's own.
WITHOUT = """
import logging.config, sys
from cyborg_reconciler.logs import configuration

own = open(sys.argv[1], "w")
assert own.fileno() == 2
logging.config.dictConfig(configuration("text"))
logging.getLogger("crowd").info("a line")
"""


def test_no_line_is_cut_where_standard_error_does_not_block():
    done = subprocess.run([sys.executable, "-c", IMPATIENT], stderr=subprocess.PIPE, check=True, text=True)
    said = [line.rpartition("crowd: ")[2] for line in done.stderr.splitlines()]
    assert sorted(line for line in said if len(line) >= 3000) == [name * 3000 for name in "abcd" for _ in range(200)]


def test_a_process_without_standard_error_writes_nothing_into_what_it_opened(tmp_path):
    own = tmp_path / "own"
    closed = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    subprocess.run([*closed, sys.executable, "-c", WITHOUT, str(own)], check=True)
    assert own.read_text() == ""

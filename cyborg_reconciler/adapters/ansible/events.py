# SPDX-License-Identifier: Apache-2.0
"""What does an event of ansible-runner say, in our words? How do those travel from a run's child to its parent?

The child parses and encodes, the parent decodes. Pure: what a run said, recorded, is all that a test needs.
"""

import re
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

if TYPE_CHECKING:
    from cyborg_reconciler.ports import Progress

Happened = Literal["started", "ok", "changed", "failed", "unreachable"]
Ending = Literal["successful", "failed", "cancelled", "timeout", "error"]

#: Longer messages are cut: they are lines for people.
MESSAGE_LENGTH: Final = 500

#: What a task is called in `Progress`, by its action; others go by their own name.
STEPS: Final = {
    "openstack.cyborg.host_facts": "observe",
    "openstack.cyborg.apply_plan": "apply",
    "ansible.builtin.include_role": "role",
    "ansible.builtin.reboot": "reboot",
}

#: What the collection's `apply_plan` prints of a reboot, which is a part of its task and has no events of its own.
REBOOT: Final = re.compile(r"^openstack\.cyborg (reboots|rebooted|could not reboot) (\S+)\s*$")
REBOOT_HAPPENED: Final[dict[str, Happened]] = {
    "reboots": "started",
    "rebooted": "changed",
    "could not reboot": "failed",
}
ERROR: Final = re.compile(r"(?:\[ERROR\]:|ERROR!)\s*(.+)")
#: What Ansible prints when it has come to its end.
RECAP: Final = "PLAY RECAP"
#: What shells, sudo and Ansible say where there is no Python.
NO_PYTHON: Final = re.compile(r"interpreter.*was not found|python[0-9.]*['\"]?: (?:command )?not found", re.IGNORECASE)
#: What ansible-core 2.19 puts before many messages.
PREFIX: Final = "Task failed: "


class HostEvent(msgspec.Struct, frozen=True, kw_only=True, tag="host", omit_defaults=True):
    """Something that happened on a host.

    Attributes:
        facts, outcome: what `host_facts` and `apply_plan` returned, as JSON values.
    """

    host: str
    happened: Happened
    task: str = ""
    action: str = ""
    message: str = ""
    facts: dict[str, Any] | None = None
    outcome: dict[str, Any] | None = None

    def progress(self) -> "Progress":
        """Return the event for the progress display."""
        from cyborg_reconciler.ports import Progress  # noqa: PLC0415 -- asked by the parent; the child starts without it

        return Progress(self.host, STEPS.get(self.action, self.task), self.happened, self.message)


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended", omit_defaults=True):
    """The last word of a run.

    Attributes:
        status: ``error`` when ansible-runner itself failed, or its process died.
        said: what Ansible said that belongs to no host.
    """

    status: Ending
    rc: int | None = None
    said: str = ""


Message = HostEvent | Ended

_decoder: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """Return *message* as one line; what is no text in UTF-8 is spelled, for hosts may send anything."""
    try:
        return msgspec.json.encode(message) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_spelled(msgspec.to_builtins(message))) + b"\n"


def _spelled(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {_spelled(key): _spelled(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(_spelled, value))
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def decode_message(line: bytes) -> Message:
    """Return the message in *line*.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return _decoder.decode(line)


def parse_event(event: dict[str, Any]) -> HostEvent | None:
    """Return what *event* says of a host, or None when it says nothing that matters."""
    if event.get("event") == "verbose" and (said := REBOOT.match(event.get("stdout") or "")):
        return HostEvent(host=said[2], happened=REBOOT_HAPPENED[said[1]], action="ansible.builtin.reboot")
    data = event.get("event_data") or {}
    result = data.get("res") or {}
    happened = parse_happened(event.get("event"), data, result)
    if happened is None or not data.get("host"):
        return None
    facts = (result.get("ansible_facts") or {}).get("cyborg_facts")
    outcome = result.get("cyborg_outcome")
    return HostEvent(
        host=data["host"],
        happened=happened,
        task=data.get("task") or "",
        action=data.get("task_action") or "",
        message=explain(result) if happened in {"failed", "unreachable"} else "",
        facts=facts if isinstance(facts, dict) else None,
        outcome=outcome if isinstance(outcome, dict) else None,
    )


def parse_happened(name: str | None, data: dict[str, Any], result: dict[str, Any]) -> Happened | None:
    """Return what the event *name* means for its host; a failure that the playbook ignores is none."""
    if name == "runner_on_failed" and result.get("unreachable"):
        return (
            "unreachable"  # an action plugin that lost its connection half-way says both, and Ansible takes the first
        )
    if name == "runner_on_failed":
        return "ok" if data.get("ignore_errors") else "failed"
    if name == "runner_on_ok":
        return "changed" if result.get("changed") else "ok"
    if name == "runner_on_start":
        return "started"
    return "unreachable" if name == "runner_on_unreachable" else None


def explain(result: dict[str, Any]) -> str:
    """Return in one line why a task failed."""
    said = [str(result.get(name) or "").strip() for name in ("msg", "module_stderr", "module_stdout", "stderr")]
    if NO_PYTHON.search("\n".join(said[:3])):
        reason = next((text.splitlines()[0] for text in (*said[1:3], said[0]) if text), "")
        return f"there is no Python where Ansible looks for it ({one_line(reason)}); set ansible_python_interpreter"
    return next((one_line(text.removeprefix(PREFIX)) for text in said if text), "the task failed and said nothing")


def one_line(text: str) -> str:
    """Return *text* on one line, without control characters, and not too long."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= MESSAGE_LENGTH else f"{line[: MESSAGE_LENGTH - 1]}…"


def find_reason(output: list[str]) -> str:
    """Return in one line why Ansible ended early, from its *output*: its first error, or what it said last.

    Empty when it came to its end without an error: what happened then is the hosts' own affair.
    """
    for position, line in enumerate(output):
        if match := ERROR.search(line):
            return one_line(" ".join([match[1], *output[position + 1 : position + 3]]))
    return "" if any(line.startswith(RECAP) for line in output) else one_line(" ".join(output[-3:]))

# SPDX-License-Identifier: Apache-2.0
"""How do people read what was measured? The reference page, made of a run of the bench and nothing else.

Called by `__main__` for ``--page``, with the JSON document of the run. Pure.
"""

from typing import Any, Final

TITLES: Final = {
    "core": "Deciding: resolve, diff and plan",
    "facts": "Reading: the fact modules",
    "apply": "Changing: one wave",
    "api": "Answering: the REST API",
    "drift": "Noticing: from the kernel's event to OutOfSync",
}

#: What the rows of a group are, in the words of the reference.
TEXTS: Final = {
    "core": """\
A fleet of hosts with eight PCI functions each, whose facts are about 11 kB of JSON a host, meets 20 policies. Each row
is a process of its own with one thread; *memory* is how far its resident set rose over what it held before.

- *cold*: each host's JSON is decoded, laid out, resolved, compared and planned, then let go of; one host in a hundred
  is not as declared. *all out of sync*: none is. Hosts are of three kinds, each built in 20 ways; *no two alike*: every
  host is built in a way of its own.
- *warm*: every host's fingerprint is compared with the one known; the one host in a hundred that differs is decoded
  and planned as above. *whole documents*: the fingerprints have to be taken out of the whole documents first, as when
  hosts are read over SSH.
- *survey*: the same through `reconcile.survey`, which keeps every host's facts, desired state and plan, with a journal
  in memory.""",
    "facts": """\
*pass* is `ansible-playbook` over all hosts, local connection, facts not gathered, as many forks as there are cores;
CPU of the controller and of the modules together. Its ratio is of what each host after the first adds; *one host* is
the same pass over that one alone: Ansible's start, and the module made ready to be sent, which every pass does once.
*alone* is what runs on a host: the file that Ansible sends, by Python and nothing else. `host_facts` finds its bytecode
from an earlier look, as it does on every look but the first; *first look* finds none. *memory* is the peak of the
largest process.""",
    "apply": """\
Simulated hosts with a QAT device get four VFs, `vfio-pci` loaded with an option, and all of it kept over a reboot: by
the playbook `openstack.cyborg.apply` from a saved plan (one `actions` segment, which also takes the host's lock, looks
for holders and protected devices, and keeps the record of what was there before), and by a role of eight tasks of
`ansible.builtin` modules that does only the writing. *again* applies the same plan once more. What the hosts' kernels
do is not counted.""",
    "api": """\
gunicorn with two workers of eight threads each, SQLite with 10,000 accelerators and as many agents; 16 connections that
are kept and send as soon as they are answered. CPU is that of the workers, and *a host* is one request; the ratio is to
a server of the same stack that says hello. The aims are of the rate at which requests are answered: 1/2 is half of
hello's, by the median of eight turns, each of which sends as many hellos before. The client takes its part of the
machine in both. *changed* check-ins bring facts in which a
device has another driver, and are on disk before they are answered. *half load* sends half of what could be carried,
each request when its time has come. Of the last row, *memory* is how far the workers' rose.""",
    "drift": """\
Somebody takes the 16 VFs of a device away by hand, on a host whose policy declares them. How long is it from the first
event that the kernel sends of this until the agent's check-in is accepted, and until `GET /v1/hosts/{host}`, asked
every 10 ms, says `OutOfSync`? Seconds: the median of all changes, and the most. `serve` with its worker, and the agent,
have the settings that they have by default, but that the agent does not look by itself at what may have changed: an
event must tell it to. Half a second it waits for further events; then up to half a second passes until the worker looks
at its queue.

The host is simulated: the agent has its `/sys` and `/proc` in place of the machine's. The events are such as a kernel
sends when VFs go, and reach the agent from the machine's kernel through libudev; but it is the bench that has it send
them, in a network namespace of its own. CPU and *memory* are the agent's in the first row and the worker's in the
second; *a host* is one change and its being put back.""",
}
COLUMNS: Final = ("", "CPU, s", "CPU a host, ms", "memory, MB", "ratio", "to", "aim", "")
RULE: Final = ("---", "---:", "---:", "---:", "---:", "---", "---", "---")


def page(document: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    machine = document["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    where = (
        f"Measured on {document['at'][:10]} with `make bench`, on {machine['cores']} cores ({machine['cpu']}) shared "
        f"with other work (load before: {machine['load_before']}), Linux {machine['kernel'].partition('-')[0]}, "
        f"Python {machine['python']}, {packages}."
    )
    how = (
        f"CPU seconds are those of all processes together, the least of {document['rounds']} measurements (of one for "
        "100,000 hosts). On another machine the seconds differ; *ratio* compares a row with the one "
        "that is named under *to*, of the same run. *aim* is what the row was to keep, and the last column says "
        "whether it did."
    )
    notice = "<!-- Written by `python -m tests.perf --page docs/reference/performance.md`: measure, do not edit. -->"
    parts = ["# Performance", notice, where, how]
    for group, title in TITLES.items():
        rows = [row for row in document["rows"] if row["group"] == group]
        if rows:
            parts += [f"## {title}", TEXTS[group], table(rows)]
    return "\n\n".join(parts) + "\n"


def table(rows: list[dict[str, Any]]) -> str:
    """Return *rows* as a table of Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (COLUMNS, RULE, *map(cells_of, rows)))


def cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what the page shows of *row*."""
    if row["note"]:
        return (row["name"], "", "", "", "", "", row["note"].replace("|", "\\|"), "")
    return (
        row["name"],
        f"{row['cpu_s']:.2f}",
        f"{row['cpu_ms_per_host']:.2f}",
        f"{row['memory_mb']:.0f}",
        "" if row["ratio"] is None else f"{row['ratio']:.2f}",
        row["ratio_to"],
        row["aim"],
        {None: "", True: "kept", False: "missed"}[row["within"]],
    )

# SPDX-License-Identifier: Apache-2.0
"""What can be typed? The page of the command line, from click's own description. Called by `generate`. Pure."""

import re
from collections.abc import Iterator

import click

from cyborg_reconciler.cli.main import cli
from docs.pages.markdown import cell, code, fence, page, table

PROGRAM = "cyborg-reconciler"


def render() -> str:
    """Return the page."""
    root = click.Context(cli, info_name=PROGRAM, **cli.context_settings)
    sections = [section(*known) for known in commands_of(cli, root)]
    index = table(
        ["command", "what it does"],
        [
            (f"[{command.name}](#{command.name})", first_sentence(command))
            for _, command in sorted(cli.commands.items())
        ],
    )
    return page(
        "The command line",
        *prose(cli.help or ""),
        "Options before the command:",
        options(cli, root),
        "Commands:",
        index,
        *sections,
    )


def commands_of(group: click.Group, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Yield every command of *group*, by name, each followed by its own."""
    for name, command in sorted(group.commands.items()):
        inner = click.Context(command, info_name=name, parent=context, **command.context_settings)
        yield command, inner
        if isinstance(command, click.Group):
            yield from commands_of(command, inner)


def section(command: click.Command, context: click.Context) -> str:
    """Return what is to be said of one command."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    title = context.command_path.removeprefix(f"{PROGRAM} ")
    parts = [f"## {title}", fence(usage, "text"), *prose(command.help or ""), options(command, context)]
    return "\n\n".join(part for part in parts if part)


def options(command: click.Command, context: click.Context) -> str:
    """Return the table of a command's options; empty where it has none."""
    records = [
        record
        for param in command.get_params(context)
        if isinstance(param, click.Option) and "--help" not in param.opts and (record := param.get_help_record(context))
    ]
    return table(["option", "what it says"], [(code(names), words) for names, words in records]) if records else ""


def first_sentence(command: click.Command) -> str:
    """Return the first sentence of a command's help."""
    text = cell((command.help or "").partition("\n\n")[0])
    return re.split(r"(?<=\.)\s", text)[0]


def prose(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; examples become blocks of code."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = paragraph.strip().splitlines()
        kept = lines[0].strip() == "\b"
        lines = [line.strip() for line in lines[1 if kept else 0 :]]
        if lines and lines[0] in {"Example:", "Examples:"}:
            yield f"{lines[0]}\n\n{fence(chr(10).join(lines[1:]), 'sh')}"
        else:
            yield " ".join(lines)

# SPDX-License-Identifier: Apache-2.0
"""`validate`: all that is wrong with a tree of policies; `schema`: JSON Schemas for editors."""

from dataclasses import asdict

import click

from cyborg_reconciler.bootstrap import declarations_of
from cyborg_reconciler.cli.common import DONE, FAILED, console, errors_console, put_json, with_output
from cyborg_reconciler.documents.schema import schemas
from cyborg_reconciler.errors import DeclarationsInvalidError, Problem


@click.command(short_help="Check policies: everything that is wrong.")
@with_output
@click.argument("path", type=click.Path())
def validate(*, output: str, path: str) -> int:
    """Check a file or a tree of policies, and show all that is wrong: file, line, field, and what would be right.

    \b
    Example:
      cyborg-reconciler validate policies/
    """
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    policies = 0
    try:
        declared = declarations_of(path).read()
        warnings, policies = declared.warnings, len(declared.policies)
    except DeclarationsInvalidError as exc:
        problems = exc.problems
    if output == "json":
        put_json({"problems": list(map(asdict, problems)), "warnings": list(map(asdict, warnings))})
    else:
        err = errors_console()
        for problem in problems:
            err.print(str(problem), style="red")
        for warning in warnings:
            err.print(f"warning: {warning}", style="yellow")
        if problems:
            console().print(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}")
        else:
            console().print(f"{policies} {'policy is' if policies == 1 else 'policies are'} valid")
    return FAILED if problems else DONE


@click.command(short_help="JSON Schemas of the documents.")
@click.argument("kind", required=False)
def schema(*, kind: str | None) -> int:
    """Print the JSON Schema of KIND, or of all kinds of documents, for editors.

    \b
    Example:
      cyborg-reconciler schema AcceleratorPolicy > accelerator-policy.json
    """
    known = schemas()
    if kind is not None and kind not in known:
        msg = f"no kind of document is called {kind}; there are {', '.join(known)}"
        raise click.UsageError(msg, click.get_current_context())
    put_json(known[kind] if kind else known)
    return DONE

# SPDX-License-Identifier: Apache-2.0
"""`completion`: the script that makes a shell complete our commands and options."""

import click
from click.shell_completion import get_completion_class

from cyborg_reconciler.cli.common import DONE


@click.command(short_help="A shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> int:
    """Print what makes SHELL complete this program's commands and options.

    \b
    Examples:
      cyborg-reconciler completion bash > ~/.local/share/bash-completion/completions/cyborg-reconciler
      cyborg-reconciler completion fish > ~/.config/fish/completions/cyborg-reconciler.fish
    """
    maker = get_completion_class(shell)
    if maker is None:
        msg = f"{shell} is not known"
        raise click.UsageError(msg, click.get_current_context())
    root = click.get_current_context().find_root().command
    click.echo(maker(root, {}, "cyborg-reconciler", "_CYBORG_RECONCILER_COMPLETE").source())
    return DONE

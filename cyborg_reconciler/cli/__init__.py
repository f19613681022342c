# SPDX-License-Identifier: Apache-2.0
"""The command line: the one place where errors become lines for people and exit codes."""

from cyborg_reconciler.cli.main import main

__all__ = ["main"]

# SPDX-License-Identifier: Apache-2.0
"""``python -m cyborg_reconciler`` is the command line: how the program starts itself."""

from cyborg_reconciler.cli import main

if __name__ == "__main__":
    main()

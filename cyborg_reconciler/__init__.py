# SPDX-License-Identifier: Apache-2.0
"""Keeps the accelerators of Linux compute hosts in the state that their operators declare.

Which version is this? `__version__` answers, for the command line and for the records of runs. Reads the installed
package's metadata once, on import; no other I/O.
"""

from importlib.metadata import version

__version__ = version("cyborg-reconciler")

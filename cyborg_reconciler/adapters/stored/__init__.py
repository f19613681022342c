# SPDX-License-Identifier: Apache-2.0
"""Hosts as the journal has them: those whose agents report need not be asked, and some nobody can ask.

`bootstrap` puts `KnownHosts` around the inventory, and `FreshestObserver` around the observer, for the loop.
"""

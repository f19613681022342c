# SPDX-License-Identifier: Apache-2.0
"""What do the API, the conductor and the worker keep, and what do they ask of the database that keeps it?

A module a noun: what is kept, as values, and a Protocol that the database's adapter fills. `ports` has what `reconcile`
asks of the world. No I/O in here.
"""

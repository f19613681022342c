# SPDX-License-Identifier: Apache-2.0
"""The resident agent of a compute host: it observes the host, and reports to the conductor.

`process` puts it together. `observer` finds out what is true here and keeps it up to date; `reporter` brings it to the
conductor, whatever happens on the way; `server` answers the conductor and takes drivers in. What is true of the host is
read by the very code of the collection's fact modules: `readers` is the one door to it.

Imports the standard library, the few libraries of the extra ``agent``, `errors` and `settings`: on a compute host there
is nothing else.
"""

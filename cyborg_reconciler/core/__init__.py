# SPDX-License-Identifier: Apache-2.0
"""Pure: what is desired, what differs, what is to be done. No I/O, no clock, no logging in here."""

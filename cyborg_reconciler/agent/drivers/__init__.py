# SPDX-License-Identifier: Apache-2.0
"""The drivers of the agent: those in its own process, and those that registered with it from the same host."""

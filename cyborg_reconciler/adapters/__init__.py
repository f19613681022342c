# SPDX-License-Identifier: Apache-2.0
"""Where the ports meet the world: one package or module for each way of filling them. They do not know each other."""

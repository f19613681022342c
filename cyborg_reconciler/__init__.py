# SPDX-License-Identifier: Apache-2.0
"""Keeps the accelerators of Linux compute hosts in the state that their operators declare.

Imports nothing: each run of Ansible, and each simulated host, starts a process that would wait for it.
"""

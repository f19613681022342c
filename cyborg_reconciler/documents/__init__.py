# SPDX-License-Identifier: Apache-2.0
"""The documents that people write and programs exchange, each versioned; nothing in here does I/O."""

# SPDX-License-Identifier: Apache-2.0
"""The operations of the API, one noun a module; `routes` says where they are."""

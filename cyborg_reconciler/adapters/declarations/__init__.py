# SPDX-License-Identifier: Apache-2.0
"""Where desired state comes from: YAML files, and the catalogue of drivers that is shipped."""

# SPDX-License-Identifier: Apache-2.0
"""The registry of features, in the order in which they act: what others build on comes first. Pure."""

from collections.abc import Mapping
from typing import Final

from cyborg_reconciler.core.features import binding, driver, kernel_args, kernel_modules, sriov
from cyborg_reconciler.core.features.base import Feature

FEATURES: Final[tuple[Feature, ...]] = (kernel_args, kernel_modules, driver, sriov, binding)
BY_NAME: Final[Mapping[str, Feature]] = {feature.NAME: feature for feature in FEATURES}

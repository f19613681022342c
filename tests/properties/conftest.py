# SPDX-License-Identifier: Apache-2.0
"""How long hypothesis looks for a counterexample: `HYPOTHESIS_PROFILE=thorough` looks longer."""

import os

from hypothesis import HealthCheck, settings

# A machine that is busy is slow, and that is no counterexample.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

settings.register_profile("default", PATIENT, max_examples=40)
settings.register_profile("ci", PATIENT, max_examples=40, derandomize=True)
settings.register_profile("thorough", PATIENT, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))

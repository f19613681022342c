# SPDX-License-Identifier: Apache-2.0
"""Who decides what becomes of what the API and the agents ask for? All their writes go through the services in here.

Stands beside `reconcile`: what takes time on a host is declared here, and carried out there.
"""

# SPDX-License-Identifier: Apache-2.0
"""Simulated hosts: trees of files that look like a Linux host, each with a process that plays its kernel.

Used by `cyborg-reconciler demo`, the integration tests and the bench; needs no privileges and no network.

    with SimulatedHosts(folder, demo_machines()) as hosts:
        hosts["qat-1"].write("/sys/bus/pci/devices/0000:6b:00.0/sriov_numvfs", 4)
"""

from cyborg_reconciler.simulation.hosts import SimulatedHost, SimulatedHosts, write_tree
from cyborg_reconciler.simulation.machine import Disk, Function, Machine, MdevType, Module, Port, Sriov
from cyborg_reconciler.simulation.samples import demo_machines, gpu_1, guest_1, large, nic_1, qat_1, rocky

__all__ = [
    "Disk",
    "Function",
    "Machine",
    "MdevType",
    "Module",
    "Port",
    "SimulatedHost",
    "SimulatedHosts",
    "Sriov",
    "demo_machines",
    "gpu_1",
    "guest_1",
    "large",
    "nic_1",
    "qat_1",
    "rocky",
    "write_tree",
]

# SPDX-License-Identifier: Apache-2.0
"""What does dkms do on a simulated host? Listed in `tools`. Does I/O on the tree.

`build` makes a module's file from C source as far as the simulation can know it: the ids in its device table, its
version, licence, parameters and the driver's name. Nothing is compiled.

Source: dkms(8); Linux, include/linux/module.h (MODULE_* macros) and include/linux/pci.h (PCI_DEVICE).
"""

import os
import re
from typing import Final

from cyborg_reconciler.simulation import depmod
from cyborg_reconciler.simulation.catalogue import pci
from cyborg_reconciler.simulation.kernel import Kernel
from cyborg_reconciler.simulation.machine import Module
from cyborg_reconciler.simulation.module_file import encode_module
from cyborg_reconciler.simulation.result import Result, split_options

STORE: Final = "/var/lib/dkms"
ARCHITECTURE: Final = "x86_64"
SETTING: Final = re.compile(r'^\s*(?P<name>\w+)(\[(?P<index>\d+)\])?=(?P<value>"[^"]*"|\'[^\']*\'|\S*)', re.MULTILINE)
DEVICE: Final = re.compile(r"PCI_DEVICE\(\s*0x(?P<vendor>[0-9a-fA-F]{1,4})\s*,\s*0x(?P<product>[0-9a-fA-F]{1,4})\s*\)")
MACRO: Final = re.compile(r'MODULE_(VERSION|LICENSE|DESCRIPTION)\(\s*"([^"]*)"\s*\)')
PARAMETER: Final = re.compile(r"module_param\(\s*(\w+)\s*,")
DRIVER: Final = re.compile(r'struct\s+pci_driver\s+\w+\s*=\s*\{[^}]*?\.name\s*=\s*"(?P<name>[^"]+)"', re.DOTALL)


def dkms(kernel: Kernel, words: list[str]) -> Result:
    """Serve add, build, install, uninstall, unbuild, remove, status and autoinstall."""
    options, rest = split_options(words, ("-m", "-v", "-k", "-a", "-c"))
    verb, *names = rest or ["status"]
    spec = names[0] if names else options.get("-m", "")
    name, _, version = spec.partition("/")
    version = version or options.get("-v", "")
    if verb == "status":
        return status(kernel, name)
    if verb == "autoinstall":
        return autoinstall(kernel, options.get("-k") or kernel.drivers.release())
    serve = {"add": add, "build": build, "install": install, "uninstall": uninstall, "remove": remove}
    if verb not in serve or not name or not version:
        return Result(1, stderr="Error! Arguments <module> and <module-version> are not specified.\n")
    releases = [options.get("-k") or kernel.drivers.release()]
    if "--all" in options:
        releases = [release for release in kernel.machine.kernels if state(kernel, name, version, release)]
    return serve[verb](kernel, name, version, releases)


def source(name: str, version: str) -> str:
    """Return the folder of a driver's source."""
    return f"/usr/src/{name}-{version}"


def place(name: str, version: str, release: str) -> str:
    """Return the folder of what was built for a kernel."""
    return f"{STORE}/{name}/{version}/{release}/{ARCHITECTURE}/module"


def settings(kernel: Kernel, name: str, version: str) -> dict[str, str]:
    """Return what dkms.conf says; of lists, ``NAME[0]`` as NAME."""
    text = kernel.tree.text(f"{source(name, version)}/dkms.conf")
    found = {
        each["name"]: each["value"].strip("\"'") for each in SETTING.finditer(text) if each["index"] in {None, "0"}
    }
    return {key: value.replace("${PACKAGE_NAME}", name).replace("$PACKAGE_NAME", name) for key, value in found.items()}


def state(kernel: Kernel, name: str, version: str, release: str) -> str:
    """Return ``installed``, ``built`` or nothing."""
    built = kernel.tree.names(place(name, version, release))
    if not built:
        return ""
    installed = kernel.tree.exists(f"/lib/modules/{release}/updates/dkms/{built[0]}")
    return "installed" if installed else "built"


def add(kernel: Kernel, name: str, version: str, _releases: list[str]) -> Result:
    """Take a source into the store."""
    folder = source(name, version)
    if not kernel.tree.exists(f"{folder}/dkms.conf"):
        return Result(
            2, stderr=f"Error! Could not find module source directory.\nDirectory: {folder} does not exist.\n"
        )
    if kernel.tree.exists(f"{STORE}/{name}/{version}"):
        return Result(3, stderr=f"Error! DKMS tree already contains: {name}/{version}\n")
    kernel.tree.link(f"{STORE}/{name}/{version}/source", folder)
    return Result(stdout=f"Creating symlink {STORE}/{name}/{version}/source -> {folder}\n")


def build(kernel: Kernel, name: str, version: str, releases: list[str]) -> Result:
    """Make the modules' files for kernels whose headers are there."""
    if not kernel.tree.exists(f"{STORE}/{name}/{version}"):
        added = add(kernel, name, version, releases)
        if added.rc:
            return added
    for release in releases:
        if state(kernel, name, version, release):
            continue
        if not kernel.tree.exists(f"/usr/src/linux-headers-{release}"):
            text = f"Error! Your kernel headers for kernel {release} cannot be found at /lib/modules/{release}/build\n"
            return Result(1, stderr=f"{text}Please install the linux-headers-{release} package\n")
        module = read_source(kernel, name, version)
        if module is None:
            log = f"{STORE}/{name}/{version}/build/make.log"
            return Result(10, stderr=f"Error! Bad return status for module build on kernel: {release}\nConsult {log}\n")
        path = f"{place(name, version, release)}/{os.path.basename(module.path)}"
        kernel.tree.write(path, encode_module(module, release))
    return Result(stdout=f"Building module:\ndone.\n{name}/{version}: built\n")


def read_source(kernel: Kernel, name: str, version: str) -> Module | None:
    """Return the module that the source makes, None where there is none in it."""
    folder = source(name, version)
    built = settings(kernel, name, version).get("BUILT_MODULE_NAME", name)
    files = [each for each in kernel.tree.names(folder) if each.endswith(".c")]
    text = "\n".join(kernel.tree.text(f"{folder}/{each}") for each in files)
    if not files or "#error" in text:
        return None
    macros = {match[1]: match[2] for match in MACRO.finditer(text)}
    driver = DRIVER.search(text)
    return Module(
        name=built.replace("-", "_"),
        path=f"updates/dkms/{built}.ko",
        aliases=tuple(
            pci(match["vendor"].rjust(4, "0"), match["product"].rjust(4, "0")) for match in DEVICE.finditer(text)
        ),
        driver=driver["name"] if driver else None,
        version=macros.get("VERSION"),
        parameters=dict.fromkeys(PARAMETER.findall(text), "0"),
        description=macros.get("DESCRIPTION", ""),
        licence=macros.get("LICENSE", "GPL"),
        signer=None,
    )


def install(kernel: Kernel, name: str, version: str, releases: list[str]) -> Result:
    """Put what was built, or is built now, where modprobe finds it."""
    built = build(kernel, name, version, releases)
    if built.rc:
        return built
    for release in releases:
        for file in kernel.tree.names(place(name, version, release)):
            with open(kernel.tree.path(f"{place(name, version, release)}/{file}"), "rb") as built_file:
                kernel.tree.replace(f"/lib/modules/{release}/updates/dkms/{file}", built_file.read())
        link = f"{STORE}/{name}/kernel-{release}-{ARCHITECTURE}"
        kernel.tree.link(link, f"{STORE}/{name}/{version}/{release}/{ARCHITECTURE}")
        depmod.write_lists(kernel.tree, kernel.drivers, release)
    return Result(stdout=f"{built.stdout}Installing to /lib/modules/{releases[0]}/updates/dkms/\ndepmod...\n")


def uninstall(kernel: Kernel, name: str, version: str, releases: list[str]) -> Result:
    """Take it away from there; what was built stays."""
    for release in releases:
        for file in kernel.tree.names(place(name, version, release)):
            kernel.tree.remove(f"/lib/modules/{release}/updates/dkms/{file}")
        kernel.tree.remove(f"{STORE}/{name}/kernel-{release}-{ARCHITECTURE}")
        depmod.write_lists(kernel.tree, kernel.drivers, release)
    return Result(stdout="depmod...\n")


def remove(kernel: Kernel, name: str, version: str, releases: list[str]) -> Result:
    """Forget what was built, and the source when nothing is built of it any more."""
    if not kernel.tree.exists(f"{STORE}/{name}/{version}"):
        return Result(3, stderr=f"Error! There is no instance of {name} {version} in the DKMS tree.\n")
    uninstall(kernel, name, version, releases)
    for release in releases:
        kernel.tree.remove(f"{STORE}/{name}/{version}/{release}")
    if not [each for each in kernel.tree.names(f"{STORE}/{name}/{version}") if each not in {"source", "build"}]:
        kernel.tree.remove(f"{STORE}/{name}/{version}")
        if not kernel.tree.names(f"{STORE}/{name}"):
            kernel.tree.remove(f"{STORE}/{name}")
    return Result(stdout=f"Deleting module {name}/{version} completely from the DKMS tree.\n")


def versions(kernel: Kernel, name: str) -> list[str]:
    """Return the versions of *name* in the store, without the links to what is installed."""
    return [each for each in kernel.tree.names(f"{STORE}/{name}") if not each.startswith("kernel-")]


def status(kernel: Kernel, wanted: str) -> Result:
    """Print what the store holds, as dkms 3 does."""
    lines = []
    for name in kernel.tree.names(STORE):
        for version in versions(kernel, name):
            releases = [
                each for each in kernel.tree.names(f"{STORE}/{name}/{version}") if each not in {"source", "build"}
            ]
            states = [
                f"{name}/{version}, {each}, {ARCHITECTURE}: {state(kernel, name, version, each)}" for each in releases
            ]
            lines += states or [f"{name}/{version}: added"]
    return Result(stdout="".join(f"{line}\n" for line in lines if not wanted or line.startswith(f"{wanted}/")))


def autoinstall(kernel: Kernel, release: str) -> Result:
    """Install everything that the store holds for one kernel."""
    errors = ""
    for name in kernel.tree.names(STORE):
        for version in versions(kernel, name):
            errors += install(kernel, name, version, [release]).stderr
    return Result(1 if errors else 0, stderr=errors)

# SPDX-License-Identifier: Apache-2.0
"""What does a kernel module's file hold? Written by the disk, DKMS and the tests; read by the loader and by modinfo.

A small but true ELF file: `.modinfo` is what modinfo and every other reader of modules expects, and in the place of
machine code the section `.simulation` says what the code would do. Pure: bytes in, values out.

Source: ELF-64 object file format; Linux, include/linux/moduleparam.h (`.modinfo`) and scripts/sign-file.c (trailer).
"""

import hashlib
import json
import struct
from typing import Final

from cyborg_reconciler.simulation.machine import Module, decode_module, encode_module_json

MAGIC: Final = b"\x7fELF\x02\x01\x01" + bytes(9)
HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION: Final = struct.Struct("<IIQQQQIIQQ")
RELOCATABLE, X86_64 = 1, 62
PROGRAM_BITS, STRING_TABLE = 1, 3

SIGNED: Final = b"~Module signature appended~\n"
#: algorithm, hash, identifier type, lengths of the signer's name and of the key's id, padding, length of the signature.
SIGNATURE: Final = struct.Struct(">BBBBB3xI")
RSA, SHA256, X509 = 1, 4, 1


def srcversion(module: Module) -> str:
    """Return a checksum of the module's source, as long as the kernel's."""
    return hashlib.sha256(repr(module).encode()).hexdigest()[:23].upper()


def module_info(module: Module, kernel: str) -> list[tuple[str, str]]:
    """Return the lines of `.modinfo` in order: names come more than once."""
    lines = [("license", module.licence), ("description", module.description)]
    if module.version:
        lines.append(("version", module.version))
    lines.append(("srcversion", srcversion(module)))
    lines += [("alias", alias) for alias in module.aliases]
    lines.append(("depends", ",".join(module.depends)))
    if module.path.startswith("kernel/"):
        lines.append(("intree", "Y"))
    lines += [("name", module.name), ("vermagic", f"{kernel} SMP preempt mod_unload modversions ")]
    lines += [("parm", f"{name}:simulated parameter") for name in module.parameters]
    return lines


def encode_module(module: Module, kernel: str) -> bytes:
    """Return the file of *module* for *kernel*."""
    info = b"".join(f"{name}={value}".encode() + b"\0" for name, value in module_info(module, kernel))
    names = b"\0.modinfo\0.simulation\0.shstrtab\0"
    contents = [(b".modinfo", PROGRAM_BITS, info), (b".simulation", PROGRAM_BITS, encode_module_json(module).encode())]
    contents.append((b".shstrtab", STRING_TABLE, names))
    body, headers = b"", SECTION.pack(*[0] * 10)
    for name, kind, data in contents:
        offset = HEADER.size + len(body)
        headers += SECTION.pack(names.index(name + b"\0"), kind, 0, 0, offset, len(data), 0, 0, 1, 0)
        body += data
    body += bytes(-len(body) % 8)
    count = len(contents) + 1
    start = HEADER.size + len(body)
    head = HEADER.pack(MAGIC, RELOCATABLE, X86_64, 1, 0, 0, start, 0, HEADER.size, 0, 0, SECTION.size, count, count - 1)
    return head + body + headers + (_trailer(module.signer) if module.signer else b"")


def _trailer(signer: str) -> bytes:
    name, key_id, signature = signer.encode(), bytes(20), bytes(256)
    sizes = SIGNATURE.pack(RSA, SHA256, X509, len(name), len(key_id), len(signature))
    return name + key_id + signature + sizes + SIGNED


def section(data: bytes, wanted: str) -> bytes:
    """Return what the section *wanted* of an ELF file holds. Raises: ValueError."""
    if len(data) < HEADER.size or not data.startswith(MAGIC[:6]):
        message = "not an ELF file"
        raise ValueError(message)
    header = HEADER.unpack_from(data)
    start, count, names_index = header[6], header[12], header[13]
    if start + count * SECTION.size > len(data):
        message = "an ELF file that was cut off"
        raise ValueError(message)
    sections = [SECTION.unpack_from(data, start + i * SECTION.size) for i in range(count)]
    names = data[sections[names_index][4] :]
    for name, _, _, _, offset, size, *_ in sections:
        if names[name : names.index(b"\0", name)] == wanted.encode():
            return data[offset : offset + size]
    message = f"no section {wanted}"
    raise ValueError(message)


def decode_module_file(data: bytes) -> Module:
    """Return the module whose file *data* is. Raises: ValueError where it is none of ours."""
    return decode_module(json.loads(section(data, ".simulation")))


def parse_module_info(data: bytes) -> list[tuple[str, str]]:
    """Return the lines of `.modinfo`, and the signer where the file is signed."""
    lines = []
    for entry in section(data, ".modinfo").decode().split("\0"):
        name, equals, value = entry.partition("=")
        if equals:
            lines.append((name, value))
    return [*lines, ("signer", signer)] if (signer := parse_signer(data)) else lines


def parse_signer(data: bytes) -> str | None:
    """Return who signed the file, None where nobody did."""
    if not data.endswith(SIGNED):
        return None
    end = len(data) - len(SIGNED) - SIGNATURE.size
    _, _, _, name_size, key_size, signature_size = SIGNATURE.unpack_from(data, end)
    start = end - signature_size - key_size - name_size
    return data[start : start + name_size].decode()

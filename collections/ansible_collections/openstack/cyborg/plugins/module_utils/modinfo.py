# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What does the file of a kernel module say of itself: version, checksum of its source, who signed it?

`kmod` calls this. Does I/O. Files that are not compressed are read in place, which is much cheaper than the program
modinfo; that is called once for all others.
Source: ELF-64 object file format; Linux, include/linux/moduleparam.h (`.modinfo`) and include/linux/module_signature.h.
"""

import os
import struct

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import ToolMissing, Unreadable, clean, unknown

MODINFO_TIMEOUT_S = 60
NOTHING = {"disk_version": None, "disk_srcversion": None, "signer": None}
#: e_shoff, then e_shentsize, e_shnum and e_shstrndx of an ELF-64 header.
SECTIONS_AT, SECTIONS_SHAPE = 0x28, 0x3A
SECTION = struct.Struct("<IIQQQQ")
INFO_LIMIT_BYTES = 1024 * 1024
SIGNED = b"~Module signature appended~\n"
SIGNATURE = struct.Struct(">BBBBB3xI")
TRAILER_BYTES = 12
SIGNATURE_LIMIT_BYTES = 65536
#: The object identifier of a common name, in DER. Source: X.520; the PKCS#7 signature names its issuer so.
COMMON_NAME = b"\x06\x03\x55\x04\x03"


def read_modinfo(tree, paths):
    """Return ``{module: {"disk_version": …, "disk_srcversion": …, "signer": …}}`` for *paths*, ``{module: file}``."""
    found = {}
    compressed = [name for name, path in paths.items() if not path.endswith(".ko")]
    for name, path in paths.items():
        if name not in compressed:
            try:
                found[name] = _read_file(tree, path)
            except (Unreadable, OSError, struct.error, IndexError) as exc:
                found[name] = dict.fromkeys(NOTHING, unknown(f"{path}: {exc}"))
    found.update(_ask_modinfo(tree, compressed) if compressed else {})
    return found


# ------------------------------------------------------------------------------------------------------- in the file
def _read_file(tree, path):
    handle = tree.open_read(path)
    try:
        fields = _fields(_read_section(handle, b".modinfo"))
        return {
            "disk_version": _said(fields, b"version"),
            "disk_srcversion": _said(fields, b"srcversion"),
            "signer": parse_signer(_read_end(handle)),
        }
    finally:
        os.close(handle)


def _read_section(handle, wanted):
    header = os.pread(handle, 64, 0)
    if header[:5] != b"\x7fELF\x02":
        raise Unreadable("no ELF-64 file")
    (start,) = struct.unpack_from("<Q", header, SECTIONS_AT)
    size, count, names_index = struct.unpack_from("<HHH", header, SECTIONS_SHAPE)
    table = os.pread(handle, size * count, start)
    sections = [SECTION.unpack_from(table, index * size) for index in range(count)]
    names = os.pread(handle, min(sections[names_index][5], INFO_LIMIT_BYTES), sections[names_index][4])
    for name, _kind, _flags, _address, offset, length in sections:
        if names[name : names.find(b"\0", name)] == wanted:
            return os.pread(handle, min(length, INFO_LIMIT_BYTES), offset)
    return b""


def _fields(section):
    pairs = (line.partition(b"=") for line in section.split(b"\0"))
    fields = {}
    for key, _equals, value in pairs:
        fields.setdefault(key, value)
    return fields


def _said(fields, key):
    return clean(fields[key].decode("utf-8", "backslashreplace")) if key in fields else None


def _read_end(handle):
    size = os.fstat(handle).st_size
    return os.pread(handle, SIGNATURE_LIMIT_BYTES, max(0, size - SIGNATURE_LIMIT_BYTES))


def parse_signer(end):
    """Return who signed the module whose file ends with *end*, None for nobody, or that it cannot be told."""
    if not end.endswith(SIGNED):
        return None
    body, trailer = end[: -TRAILER_BYTES - len(SIGNED)], end[-TRAILER_BYTES - len(SIGNED) :]
    _algorithm, _hash, _kind, name_size, key_size, size = SIGNATURE.unpack_from(trailer)
    if name_size:  # before Linux 4.3 the name stood before the key's id and the signature
        start = len(body) - size - key_size - name_size
        return clean(body[start : start + name_size].decode("utf-8", "backslashreplace"))
    at = body.find(COMMON_NAME, max(0, len(body) - size))
    if at < 0:
        return unknown("signed, but not by whom")
    name = body[at + len(COMMON_NAME) :]  # a string's tag, its length, the string
    return clean(name[2 : 2 + name[1]].decode("utf-8", "backslashreplace"))


# -------------------------------------------------------------------------------------------------------- the program
def _ask_modinfo(tree, names):
    import subprocess

    try:
        _status, output, _errors = tree.run("modinfo", names, timeout_s=MODINFO_TIMEOUT_S)
    except (ToolMissing, OSError, subprocess.SubprocessError) as exc:
        return {name: dict.fromkeys(NOTHING, unknown(f"modinfo: {exc}")) for name in names}
    said = parse_modinfo(output)
    silent = {name: dict.fromkeys(NOTHING, unknown(f"modinfo {name}: nothing said")) for name in names}
    return {name: said.get(name, silent[name]) for name in names}


def parse_modinfo(output):
    """Return ``{module: {"disk_version": …, "disk_srcversion": …, "signer": …}}`` of modinfo's output for several."""
    blocks = []
    for line in output.splitlines():
        key, _colon, value = line.partition(":")
        if key == "filename":
            blocks.append({"file": module_of_file(value.strip())})
        elif blocks:
            blocks[-1].setdefault(key, clean(value.strip()))
    return {
        block["file"]: {
            "disk_version": block.get("version"),
            "disk_srcversion": block.get("srcversion"),
            # modinfo sees that there is a signature before it can read whose it is.
            "signer": block.get("signer") or ("sig_id" in block and unknown("signed, but not by whom")) or None,
        }
        for block in blocks
    }


def module_of_file(path):
    """Return the module that lies in the file *path*: ``snd_hda_intel`` of ``…/snd-hda-intel.ko.xz``."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")

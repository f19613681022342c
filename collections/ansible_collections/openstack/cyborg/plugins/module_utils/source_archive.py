# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How does a tree of source files travel, and how is it known again on the other side?

`pack` and `digest_of` run on the controller, `unpack` on the host. Regular files and folders only; the digest is over
names, contents and whether a file is executable. Does I/O.
"""

import hashlib
import io
import os
import shutil
import tarfile

from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure, kernel_words

#: Not part of a source: the history, and what an earlier build left behind.
LEFT_OUT_FOLDERS = {".git", ".svn", ".hg"}
LEFT_OUT_ENDINGS = (".o", ".ko", ".mod", ".mod.c", ".cmd", ".order", ".symvers", ".swp")
EXECUTABLE, PLAIN = 0o755, 0o644


def read_source(folder):
    """Return ``[(name, is_executable, content)]`` of the files below *folder*, by name.

    Raises: ValueError for a link or a special file; OSError.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - LEFT_OUT_FOLDERS)
        for name in sorted(names):
            path = os.path.join(parent, name)
            if os.path.islink(path) or not os.path.isfile(path):
                raise ValueError("%s is no regular file: a source holds nothing else" % path)
            if not name.endswith(LEFT_OUT_ENDINGS):
                with open(path, "rb") as file:
                    found.append((os.path.relpath(path, folder), os.access(path, os.X_OK), file.read()))
    return sorted(found)


def digest_of(files):
    """Return the digest of what `read_source` returned."""
    digest = hashlib.sha256()
    for name, is_executable, content in files:
        head = "%d %s %d\n" % (is_executable, name, len(content))
        digest.update(head.encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def pack(files):
    """Return a compressed tar archive of what `read_source` returned, as bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, is_executable, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), EXECUTABLE if is_executable else PLAIN
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def unpack(host, archive, digest, folder):
    """Put the files of *archive* in place of *folder*, if they are those of *digest*. Raises: Failure."""
    try:
        with tarfile.open(archive, mode="r:gz") as packed:
            files = [_read_member(packed, member) for member in packed.getmembers()]
    except (OSError, tarfile.TarError, EOFError) as exc:
        raise Failure("%s: the archive cannot be read: %s" % (archive, exc)) from exc
    if digest_of(sorted(files)) != digest:
        raise Failure("%s: the archive does not hold the source that was announced" % archive)
    remove_folder(host, folder)
    for name, is_executable, content in files:
        _write(host, "%s/%s" % (folder, name), content, EXECUTABLE if is_executable else PLAIN)


def _read_member(packed, member):
    """Return one member as `read_source` does. Raises: Failure for what could leave the folder."""
    parts = member.name.split("/")
    if not member.isfile() or member.name.startswith("/") or not set(parts).isdisjoint({"", ".", ".."}):
        raise Failure("%r does not belong into an archive of source files" % member.name)
    return member.name, bool(member.mode & 0o100), packed.extractfile(member).read()


def _write(host, name, content, mode):
    try:
        path = host.tree.path(name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(path, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            os.fsync(file.fileno())
    except OSError as exc:
        raise Failure("%s: %s" % (name, kernel_words(exc))) from exc


def remove_folder(host, name):
    """Remove the folder *name* with everything in it; absent is fine. Raises: Failure."""
    try:
        shutil.rmtree(host.tree.path(name, follow=False))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise Failure("%s: %s" % (name, kernel_words(exc))) from exc

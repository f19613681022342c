# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How is this collection's code kept from being compiled anew, and twice, on each look at a host?

Ansible sends source in an archive, for which Python keeps no bytecode, and which it compiles once to find a module and
once to load it: more work than it is to read a host. The fact modules call this. Does I/O: one file for each of them.
"""

import contextlib
import hashlib
import importlib.util
import marshal
import os
import pwd
import stat
import struct
import sys
import zlib

PACKAGE, DOT = __name__.rpartition(".")[:2]
FOLDER = ".cache/openstack.cyborg"


@contextlib.contextmanager
def remembered(name, home=None):
    """Import what *module_utils* has from the bytecode that *name* left below its user's home, and leave it the rest.

    Bytecode is taken only whole, only for the very source at hand, and only from where nobody else can write. Python's
    own PYTHONDONTWRITEBYTECODE switches it off.
    """
    path = os.path.join(home or _home(), FOLDER, name)
    importer = _Importer({} if sys.dont_write_bytecode else _read(path))
    sys.meta_path.insert(0, importer)
    try:
        yield
    finally:
        sys.meta_path.remove(importer)
        if importer.used and importer.used != importer.known and not sys.dont_write_bytecode:
            with contextlib.suppress(OSError):  # a full disk, no home: it is compiled again the next time
                _write(path, importer.used)


class _Importer(object):
    """Finds and loads the modules of the archive; ``known`` and ``used`` are code by the digest of its source.

    Code tells its module's name and no file: the archive is somewhere else on the next look, and gone after this one.
    """

    def __init__(self, known):
        self.known = known
        self.used = {}

    def find_spec(self, name, path, target=None):  # noqa: ARG002 -- as Python calls it
        if not name.startswith(PACKAGE + DOT) or not hasattr(__loader__, "archive"):
            return None
        origin = os.path.join(path[0], name.rpartition(DOT)[2] + ".py")
        return importlib.util.spec_from_loader(name, self, origin=origin)

    def create_module(self, spec):  # noqa: ARG002 -- as Python calls it
        return None

    def exec_module(self, module):
        source = __loader__.get_data(module.__spec__.origin)
        digest = hashlib.sha256(source).digest()
        code = self.known.get(digest) or compile(source, "<%s>" % module.__name__, "exec", dont_inherit=True)
        self.used[digest] = code
        exec(code, module.__dict__)  # noqa: S102 -- what Ansible sent, as an import would


def _home():
    """Return the home of who runs this: never what a variable says, which sudo may have kept from somebody else."""
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return os.devnull
    return home if os.path.isabs(home) else os.devnull


def _read(path):
    try:
        if not _is_ours(os.path.dirname(path)):
            return {}
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not _is_trusted(os.fstat(file.fileno()), stat.S_ISREG):
                return {}
            seal, content = file.read(len(_seal(b""))), file.read()
    except OSError:
        return {}
    return marshal.loads(content) if seal == _seal(content) else {}  # noqa: S302 -- nobody else could write it


def _write(path, codes):
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if _is_ours(folder):
        content = marshal.dumps(codes)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(path + ".new", flags, 0o600), "wb") as file:  # two at once may spoil it: the seal tells
            file.write(_seal(content) + content)
        os.replace(path + ".new", path)


def _seal(content):
    """Return what tells of a torn write, and of another Python."""
    return importlib.util.MAGIC_NUMBER + struct.pack("<QI", len(content), zlib.crc32(content))


def _is_ours(folder):
    """Return whether none but this user and root could have put something into *folder*."""
    cache = os.path.dirname(folder)
    return all(_is_trusted(os.lstat(path), stat.S_ISDIR) for path in (folder, cache, os.path.dirname(cache)))


def _is_trusted(found, is_kind):
    return is_kind(found.st_mode) and found.st_uid in (0, os.geteuid()) and not found.st_mode & 0o022

# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""How is something changed on a host: one at a time, announced before, whole or not at all, and refused with a reason?

Every `ensure` of the state modules takes a `Host`. Does I/O through its `Tree`. Standard library alone.
"""

import errno
import fcntl
import os
import stat
import subprocess
import time

from ansible_collections.openstack.cyborg.plugins.module_utils.tree import ToolMissing, clean

#: In a folder that root alone can write: in /run/lock anybody could make the file first, and hold it.
LOCK = "/run/cyborg-reconciler/lock"
LOCK_POLL_S = 0.2


class Refusal(Exception):  # noqa: N818 -- nothing went wrong: it was decided against
    """The change must not be made now. Nothing was changed.

    Attributes:
        reason: one of the plan's wait reasons, e.g. ``DeviceInUse``.
        holders: who holds the device or module, as the facts say it.
    """

    def __init__(self, reason, message, holders=()):
        super().__init__(message)
        self.reason, self.message, self.holders = reason, message, list(holders)


class Failure(Exception):  # noqa: N818 -- the word of the outcome
    """The change was tried, and the kernel or a tool said no: the message names device, file and what was said."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message


class Result:
    """What a state module found, and what it left behind.

    Attributes:
        before, after: in the words of the module's RETURN. In check mode *after* is what would be.
        changed: whether anything was (or would be) written.
        reboot_required: whether it takes effect with the next boot only.
    """

    def __init__(self, before, after, *, changed, reboot_required=False):
        self.before, self.after, self.changed, self.reboot_required = before, after, changed, reboot_required


def kernel_words(exc):
    """Return the kernel's own words for *exc*: ``Device or resource busy (EBUSY)``."""
    name = errno.errorcode.get(exc.errno, str(exc.errno))
    return "%s (%s)" % (clean(exc.strerror or "error"), name)


class Host:
    """One host that is about to be changed.

    Attributes:
        tree: its files.
        check: whether nothing may be written.
        on_change: called with what was found, once everything speaks for a change and nothing has been written yet.
            It may raise `Refusal`. In check mode it is called too.
        link: how this process is reached: ``ssh``, ``local`` or None, and the address at the other end or None. What
            carries it is protected.
    """

    def __init__(self, tree, *, check=False, on_change=None, link=(None, None)):
        self.tree, self.check, self.link = tree, check, link
        self._on_change = on_change

    def announce(self, before):
        """Say that a write comes next; return whether it may (not in check mode).

        Raises: Refusal; Failure on a root whose programs would work on another system.
        """
        if not self.check and not self.tree.can_be_changed():
            raise Failure("root %s is neither / nor a simulated host: it can be read, not changed" % self.tree.root)
        if self._on_change is not None:
            self._on_change(before)
        return not self.check

    # ------------------------------------------------------------------------------------------------------ writes
    def write_attribute(self, name, value, subject):
        """Write *value* to the kernel's attribute *name*; *subject* is the device that an error names.

        Raises: Failure.
        """
        try:
            self.tree.write_attribute(name, value)
        except OSError as exc:
            shown = value.strip() or '""'
            raise Failure("%s: %s: %s: %s" % (subject, os.path.basename(name), shown, kernel_words(exc))) from exc

    def write_file(self, name, text, mode=None):
        """Write *text* to *name*, whole or not at all, and its folder where there is none. Raises: Failure.

        Without a *mode* a file that is there keeps its own, and always its owner. Bytes that were no UTF-8 stay what
        they were, if *text* was decoded with ``surrogateescape``.
        """
        try:
            path = self.tree.path(name)
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            there = os.stat(path) if os.path.exists(path) else None
            if mode is None:
                mode = stat.S_IMODE(there.st_mode) if there else 0o644
            new = path + ".cyborg-new"
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
                if there and (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(handle, there.st_uid, there.st_gid)
                os.fchmod(handle, mode)
                file.write(text)
                file.flush()
                os.fsync(handle)
            os.rename(new, path)
            _sync_folder(os.path.dirname(path))
        except OSError as exc:
            raise Failure("%s: %s" % (name, kernel_words(exc))) from exc

    def remove_file(self, name):
        """Remove *name*; absent is fine. Raises: Failure."""
        try:
            path = self.tree.path(name, follow=False)
            os.unlink(path)
            _sync_folder(os.path.dirname(path))
        except FileNotFoundError:
            return
        except OSError as exc:
            raise Failure("%s: %s" % (name, kernel_words(exc))) from exc

    def remove_folder(self, name):
        """Remove the folder *name* if it is empty."""
        try:
            os.rmdir(self.tree.path(name, follow=False))
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise Failure("%s: %s" % (name, kernel_words(exc))) from exc

    def run(self, tool, *arguments, timeout_s=600):
        """Run the host's *tool* and return what it printed. Raises: Failure, with what it said."""
        try:
            status, output, errors = self.tree.run(tool, list(arguments), timeout_s=timeout_s)
        except ToolMissing as exc:
            raise Failure(str(exc)) from exc
        except subprocess.TimeoutExpired as exc:
            raise Failure("%s did not end within %d s" % (tool, timeout_s)) from exc
        except OSError as exc:
            raise Failure("%s: %s" % (tool, kernel_words(exc))) from exc
        if status:
            said = " ".join((errors.strip() or output.strip()).split())
            raise Failure("%s %s: %s (exit status %d)" % (tool, " ".join(arguments), clean(said), status))
        return output


def has_tool(tree, tool):
    """Say whether the host has the program *tool*."""
    try:
        tree.find_tool(tool)
    except ToolMissing:
        return False
    return True


def _sync_folder(path):
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Lock:
    """The one lock of a host: who holds it may change the host. It goes with the process, however that ends."""

    def __init__(self, tree, timeout_s=60):
        self._tree, self._timeout_s, self._handle = tree, timeout_s, None

    def __enter__(self):
        try:
            path = self._tree.path(LOCK)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise Failure("%s: %s" % (LOCK, kernel_words(exc))) from exc
        try:
            self._wait()
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, b"%d\n" % os.getpid(), 0)
        except OSError as exc:
            os.close(self._handle)
            raise Failure("%s: %s" % (LOCK, kernel_words(exc))) from exc
        except BaseException:
            os.close(self._handle)
            raise
        return self

    def _wait(self):
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # noqa: PERF203 -- it waits anyway
                if time.monotonic() >= until:
                    pid = os.pread(self._handle, 32, 0).decode("ascii", "replace").strip() or "of an unknown process"
                    message = "%s is held by pid %s, and was not free within %d s" % (LOCK, clean(pid), self._timeout_s)
                    raise Failure(message) from None
                time.sleep(LOCK_POLL_S)
            else:
                return

    def __exit__(self, *_exc):
        os.close(self._handle)

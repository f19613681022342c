# Copyright (c) 2026 Cyborg Reconciler contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
# long: one class, which every reader needs; a host compiles each file anew on each look
"""Where does a path of the host lie, what stands there, and how is a kernel attribute written?

Every reader and every state module reaches the host through a `Tree`: the live system, or a tree of files that looks
like one. Does I/O. Needs the standard library alone, so that the resident agent may import it too.
"""

import errno
import os
import stat

#: One read never takes more than this. The longest files that are read here are GRUB's menu and modules.alias.
READ_LIMIT_BYTES = 4 * 1024 * 1024
#: What sysfs hands over at once. Source: Linux, Documentation/filesystems/sysfs.rst, "Reading/Writing Attribute Data".
ATTRIBUTE_BYTES = 4096
#: Strings that devices report are data of bounded length.
TEXT_LIMIT = 1024
#: The same number as the kernel's own limit for chains of symbolic links. Source: path_resolution(7), MAXSYMLINKS.
LINK_LIMIT = 40
#: A FIFO or a terminal that stands where a file should be must not hang the host's facts.
READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
TOOL_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
#: The process that plays the kernel answers here on a simulated host.
KERNEL_SOCKET_FOLDER = "/run"
KERNEL_SOCKET = "kernel.sock"
KERNEL_TIMEOUT_S = 30


class Unreadable(Exception):  # noqa: N818 -- it is a finding more often than an error
    """Something is there, or may be, and could not be read. `reason` goes into the facts as ``{"unknown": reason}``."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = clean(reason)


class ToolMissing(Exception):  # noqa: N818 -- reads as what it says
    """A program that is needed is not installed on the host."""


def clean(text, limit=TEXT_LIMIT):
    r"""Return *text* without control characters, which become escapes, as bytes that are no UTF-8 become ``\xNN``.

    Shape: at most *limit* characters.
    """
    text = text[: limit + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escape(c) for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _escape(sign):
    if "\udc80" <= sign <= "\udcff":
        return "\\x%02x" % (ord(sign) - 0xDC00)
    return sign.encode("unicode_escape").decode("ascii")


def unknown(reason):
    """Return the fact that says that something could not be read."""
    return {"unknown": clean(reason)}


def parsed(name, text, parse):
    """Return *parse* of the *text* of *name* as a fact: None stays None, and a ValueError becomes unknown."""
    try:
        return None if text is None else parse(text)
    except ValueError:
        return unknown(f"{name}: {text[:80]!r} is not what stands there by the kernel's rules")


def spelled(facts):
    """Return *facts*, or what else goes out as JSON, with what is no text in UTF-8 spelled as `clean` spells it."""
    import json

    return _spell(facts) if "\\ud" in json.dumps(facts) else facts


def _spell(value):
    if isinstance(value, dict):
        return {_spell(key): _spell(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spell(item) for item in value]
    return "".join(_escape(c) if "\ud800" <= c <= "\udfff" else c for c in value) if isinstance(value, str) else value


def is_unknown(fact):
    """Say whether *fact* stands for something that could not be read."""
    return isinstance(fact, dict) and "unknown" in fact


class Tree:
    """The files of one host below *root*.

    Paths are given as the host sees them, from ``/``. On another root than ``/`` links are followed as the host itself
    would follow them: an absolute target is below the root, and ``..`` ends there. Raises: Unreadable for no folder.
    """

    def __init__(self, root="/"):
        self.root = os.path.realpath(root)
        self.is_live = self.root == "/"
        if not os.path.isdir(self.root):
            raise Unreadable(f"{root}: there is no such folder")
        self._folders = {}

    # ------------------------------------------------------------------------------------------------------ paths
    def path(self, name, *, follow=True):
        """Return the real path of *name*; the last component's own link is left alone unless *follow*.

        Raises: OSError (ELOOP) for links that lead in circles.
        """
        if self.is_live:
            return name
        folder, _slash, last = _normal(name).rpartition("/")
        place = f"{self._real(self._inside(folder))}/{last}"
        if not follow or not os.path.islink(place):
            return place
        return self._real(self._step(self._inside(folder), last, 0))

    def resolve(self, name):
        """Return *name* as the host sees it, every link followed: ``/sys/devices/pci0000:00/…`` of a device's link."""
        if self.is_live:
            return os.path.realpath(name)
        return self._inside(_normal(name)) or "/"

    def _real(self, inside):
        return self.root + inside

    def _inside(self, folder, depth=0):
        """Return where *folder* really lies, as the host sees it; "" is the root itself."""
        known = self._folders.get(folder)
        if known is None:
            parent, _slash, last = folder.rpartition("/")
            known = self._folders[folder] = self._step(self._inside(parent, depth), last, depth) if last else ""
        return known

    def _step(self, parent, last, depth):
        name = f"{parent}/{last}"
        if depth > LINK_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        try:
            target = os.readlink(self._real(name))
        except OSError:
            return name
        return self._follow(target if target.startswith("/") else f"{parent}/{target}", depth + 1)

    def _follow(self, name, depth):
        inside = ""
        for part in name.split("/"):
            if part == "..":
                inside = inside.rpartition("/")[0]  # `..` of the root is the root
            elif part not in ("", "."):
                inside = self._inside(f"{inside}/{part}", depth)
        return inside

    # ------------------------------------------------------------------------------------------------------ reads
    def read_bytes(self, name, limit=READ_LIMIT_BYTES):
        """Return the first *limit* bytes of *name*, None where it is absent.

        Raises: Unreadable for everything but ENOENT.
        """
        try:
            handle = self.open_read(name)
            try:
                return _read_all(handle, limit, attribute=name.startswith("/sys/"))
            finally:
                os.close(handle)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno == errno.ENODEV and self.is_absent(name):
                return None  # what it belonged to went away meanwhile
            raise Unreadable(_why(name, exc)) from exc

    def open_read(self, name):
        """Return a file descriptor to read *name*. Raises: OSError."""
        if self.is_live:
            return os.open(name, READ_FLAGS)
        try:  # hardly ever a link, and cheaper so
            return os.open(self.path(name, follow=False), READ_FLAGS | os.O_NOFOLLOW)
        except OSError as exc:
            if exc.errno != errno.ELOOP:
                raise
            return os.open(self.path(name), READ_FLAGS)

    def read_text(self, name, limit=READ_LIMIT_BYTES):
        """Return the text of *name* without trailing white space and NULs, None where it is absent.

        Bytes that are no UTF-8 come as surrogates, as in names of files; `clean` and `spelled` say how they go out.
        Raises: Unreadable for everything but ENOENT, a longer text included.
        """
        data = self.read_bytes(name, limit + 1)
        if data is not None and len(data) > limit:
            raise Unreadable("%s is longer than %d bytes" % (name, limit))
        return None if data is None else decoded(data).rstrip("\0\n\t \r")

    def open_folder(self, name):
        """Return the `Folder` *name* of the kernel's attributes, None where it is absent. Raises: Unreadable."""
        try:
            handle = os.open(self.path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return Folder(name, handle)
            except OSError:
                os.close(handle)
                raise
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise Unreadable(_why(name, exc)) from exc

    def read_links(self, folder):
        """Return ``{name: what it holds}`` for the entries of *folder*; one that is no link holds itself.

        Raises: Unreadable.
        """
        links = {}
        for name in self.listdir(folder) or ():
            links[name] = self.readlink(f"{folder}/{name}") or f"{folder}/{name}"
        return links

    def fact(self, name, parse=clean):
        """Return *parse* of the text of *name*; None where it is absent, ``{"unknown": reason}`` where unreadable."""
        try:
            return parsed(name, self.read_text(name), parse)
        except Unreadable as exc:
            return unknown(exc.reason)

    def listdir(self, name):
        """Return the sorted names in the folder *name*, None where it is absent. Raises: Unreadable."""
        try:
            return sorted(os.listdir(self.path(name)))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise Unreadable(_why(name, exc)) from exc

    def readlink(self, name):
        """Return what the link *name* holds, None where it is absent or no link. Raises: Unreadable."""
        try:
            return os.readlink(self.path(name, follow=False))
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                return None
            raise Unreadable(_why(name, exc)) from exc

    def link_name(self, name):
        """Return the last component of what the link *name* holds (a driver's name, say), None where there is none."""
        target = self.readlink(name)
        return None if target is None else os.path.basename(target)

    def link_fact(self, name, parse=str):
        """Return *parse* of `link_name`, None where there is none, ``{"unknown": reason}`` where it is unreadable."""
        try:
            found = self.link_name(name)
            return None if found is None else parse(found)
        except Unreadable as exc:
            return unknown(exc.reason)
        except ValueError:
            return unknown(f"{name}: does not lead where the kernel's rules say")

    def exists(self, name):
        """Say whether *name* is there, links followed. Raises: Unreadable."""
        return self.mode(name) is not None

    def is_absent(self, name):
        """Say whether *name* is certainly not there."""
        try:
            return not self.exists(name)
        except Unreadable:
            return False

    def mode(self, name):
        """Return the mode of *name* (see `stat`), links followed; None where it is absent. Raises: Unreadable."""
        try:
            return os.stat(self.path(name)).st_mode
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise Unreadable(_why(name, exc)) from exc

    # ----------------------------------------------------------------------------------------------------- writes
    def write_attribute(self, name, value):
        """Write *value* to the kernel's attribute *name*.

        On a simulated host the process behind ``/run/kernel.sock`` is asked instead, and its error is raised as the
        kernel's would be. Raises: OSError, with the attribute as its filename.
        """
        self._folders.clear()  # a write may make devices and links, or take them away
        if not self.is_live and self._has_kernel():
            self._ask_kernel({"write": name, "value": value})
            return
        handle = os.open(self.path(name), os.O_WRONLY | os.O_CLOEXEC | (0 if self.is_live else os.O_TRUNC))
        try:
            os.write(handle, value.encode("utf-8"))
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, name) from exc
        finally:
            os.close(handle)

    def can_be_changed(self):
        """Say whether this is the live system or a simulated host. On any other tree nothing is run or written."""
        return self.is_live or self._has_kernel()

    def _has_kernel(self):
        mode = self.mode(os.path.join(KERNEL_SOCKET_FOLDER, KERNEL_SOCKET))
        return mode is not None and stat.S_ISSOCK(mode)

    def _ask_kernel(self, request):
        import json
        import socket

        folder = os.open(self.path(KERNEL_SOCKET_FOLDER), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(KERNEL_TIMEOUT_S)
                # The path of a socket is limited to 108 bytes, that of a tree is not. Source: unix(7).
                client.connect(f"/proc/self/fd/{folder}/{KERNEL_SOCKET}")
                client.sendall(json.dumps(request).encode("utf-8") + b"\n")
                with client.makefile("rb") as answers:
                    answer = json.loads(answers.readline() or '{"errno": %d}' % errno.EPIPE)
        finally:
            os.close(folder)
        if answer["errno"]:
            raise OSError(answer["errno"], answer.get("text") or os.strerror(answer["errno"]), request["write"])

    # ------------------------------------------------------------------------------------------------------ tools
    def find_tool(self, tool):
        """Return the real path of the program *tool* of this host. Raises: ToolMissing."""
        for folder in TOOL_FOLDERS:
            path = self.path(os.path.join(folder, tool))
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        where = "" if self.is_live else f" below {self.root}"
        raise ToolMissing(f"{tool} is not installed: looked in {', '.join(TOOL_FOLDERS)}{where}")

    def run(self, tool, args, timeout_s=600):
        """Run the host's program *tool* and return its exit status, its standard output and its standard error.

        Programs of another root would work on this system, not on that one: they are run on a simulated host only.
        Raises: ToolMissing; subprocess.TimeoutExpired.
        """
        import subprocess

        if not self.can_be_changed():
            raise ToolMissing(f"{tool} is not run below {self.root}: it would work on the system that runs this")

        environment = dict(os.environ, LC_ALL="C")
        if not self.is_live:
            environment["CYBORG_ROOT"] = self.root
        self._folders.clear()
        done = subprocess.run(
            [tool, *args],
            executable=self.find_tool(tool),  # the link's target inside the tree; kmod goes by the name it is called
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
        return done.returncode, decoded(done.stdout), decoded(done.stderr)


class Folder:
    """A folder of the kernel's attributes, walked to once: a host has thousands of attributes. A context manager.

    Attributes:
        names: of all that is in it.
    """

    def __init__(self, name, handle):
        self.names = frozenset(os.listdir(handle))
        self._name, self._handle = name, handle

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        os.close(self._handle)

    def read_attributes(self, names):
        """Return ``{name: text}`` of the attributes *names*, None for what is absent.

        What `Tree.read_text` would raise stands in its place as the exception.
        """
        found = {}
        for name in names:
            try:
                handle = os.open(name, READ_FLAGS | os.O_NOFOLLOW, dir_fd=self._handle)
                try:
                    data = os.read(handle, ATTRIBUTE_BYTES)
                finally:
                    os.close(handle)
                found[name] = decoded(data).rstrip("\0\n\t \r")
            except FileNotFoundError:  # noqa: PERF203 -- each attribute may fail for itself
                found[name] = None
            except OSError as exc:
                found[name] = Unreadable(_why(f"{self._name}/{name}", exc))
        return found


def decoded(data):
    """Return *data* as text, with surrogates for the bytes that are no UTF-8, as Python has them in names of files."""
    return data.decode("utf-8", "surrogateescape")


def _normal(name):
    if name.startswith("/") and "//" not in name and "/." not in name:
        return name.rstrip("/")
    return os.path.normpath("/" + name.lstrip("/")).rstrip("/")


def _read_all(handle, limit, attribute):
    data = os.read(handle, min(limit, ATTRIBUTE_BYTES if attribute else 65536))
    if attribute and len(data) < ATTRIBUTE_BYTES:
        return data  # an attribute comes in one read; another would cost as much again
    chunks = [data]
    left = limit - len(data)
    while chunks[-1] and left > 0:
        chunks.append(os.read(handle, min(left, 65536)))
        left -= len(chunks[-1])
    return b"".join(chunks)


def _why(name, exc):
    return f"{name}: {exc.strerror or exc}"

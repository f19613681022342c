# Copyright (c) 2026 Cyborg Reconciler contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How does a driver's source get from the controller to the host? Only when the host asks for it, and in one file.

The controller's half of `dkms_package`: it reads the source, asks the host by the digest, and sends what is missing.
"""

from __future__ import annotations

import os
import re
import tempfile

from ansible.plugins.action import ActionBase

from ansible_collections.openstack.cyborg.plugins.module_utils import dkms_package, source_archive

SETTING = re.compile(r"^\s*(PACKAGE_NAME|PACKAGE_VERSION)=[\"']?([^\"'\s]*)[\"']?\s*$", re.MULTILINE)


class ActionModule(ActionBase):
    """Runs the module, and sends the source along when the host does not have it."""

    TRANSFERS_FILES = False  # mostly; see `_send`
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return what the module says."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        files = []
        if arguments.get("state", "present") == "present":
            try:
                files = self._read(arguments)
            except (OSError, ValueError) as exc:
                return dict(result, failed=True, msg=str(exc))
        done = self._call(arguments, task_vars)
        if done.get("reason") == dkms_package.SOURCE_NEEDED and files:
            arguments["archive"] = self._send(files)
            done = self._call(arguments, task_vars)
        return dict(result, **done)

    def _call(self, arguments, task_vars):
        return self._execute_module(
            module_name="openstack.cyborg.dkms_package", module_args=arguments, task_vars=task_vars
        )

    def _read(self, arguments):
        """Return the source's files; name, version and digest are entered in *arguments*.

        Raises: ValueError, OSError.
        """
        if not arguments.get("source"):
            raise ValueError("source is needed: the folder of the driver's source on the controller")
        folder = self._find_needle("files", arguments["source"])
        if not os.path.isfile(os.path.join(folder, "dkms.conf")):
            raise ValueError("%s: there is no dkms.conf in it" % folder)
        with open(os.path.join(folder, "dkms.conf"), encoding="utf-8") as file:
            said = dict(SETTING.findall(file.read()))
        for name, setting in (("name", "PACKAGE_NAME"), ("version", "PACKAGE_VERSION")):
            wanted = arguments.get(name) or said.get(setting)
            if not wanted or wanted != said.get(setting):
                message = "%s: %s is wanted as %s, and dkms.conf says %s"
                raise ValueError(message % (folder, wanted, setting, said.get(setting)))
            arguments[name] = wanted
        files = source_archive.read_source(folder)
        arguments["digest"] = source_archive.digest_of(files)
        return files

    def _send(self, files):
        """Send the source to the host and return where it lies there; it goes with the task's other temporary files."""
        if self._connection._shell.tmpdir is None:  # noqa: SLF001 -- as ActionBase itself does
            self._make_tmp_path()
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "source.tar.gz")  # noqa: SLF001 -- the same
        with tempfile.NamedTemporaryFile(suffix=".tar.gz") as archive:
            archive.write(source_archive.pack(files))
            archive.flush()
            self._transfer_file(archive.name, remote)
        self._fixup_perms2((self._connection._shell.tmpdir, remote))  # noqa: SLF001 -- the same
        return remote

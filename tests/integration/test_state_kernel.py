# SPDX-License-Identifier: Apache-2.0
"""Do the state modules make modules and arguments of the kernel so, over a reboot, and go again without a trace?

On simulated hosts, whose kernel, boot loader and initramfs answer as real ones do.
"""

import json
import os
from dataclasses import replace

import pytest

from ansible_collections.openstack.cyborg.plugins.module_utils import bootargs, kernel_modules
from ansible_collections.openstack.cyborg.plugins.module_utils.facts import gather_drivers, gather_kernel
from ansible_collections.openstack.cyborg.plugins.module_utils.host import Failure
from cyborg_reconciler.simulation import Module, SimulatedHosts, gpu_1, qat_1, rocky
from tests.integration.state_support import Subject

GPU = "0000:3b:00.0"
WANTED = {"intel_iommu": "on", "iommu": "pt"}


@pytest.fixture
def gpu(tmp_path):
    with SimulatedHosts(tmp_path, [gpu_1()]) as hosts:
        yield Subject(hosts["gpu-1"])


@pytest.fixture(params=[True, False], ids=["grubby-syncs", "grubby-does-not"])
def rhel(request, tmp_path):
    with SimulatedHosts(tmp_path, [replace(qat_1("rhel-1"), family="redhat", grubby_syncs=request.param)]) as hosts:
        yield Subject(hosts["rhel-1"])


def upgrade(host, release="6.1.0-99-amd64"):
    """Install another kernel, as its package does, and boot it."""
    for place in ("boot/vmlinuz-", "lib/modules/"):
        (host.root / f"{place}{release}").symlink_to("vmlinuz-6.1.0-28-amd64" if "boot" in place else "6.1.0-28-amd64")
    assert host.run("kernel-install", "add", release).rc == 0
    host.reboot()


class TestSecureBoot:
    def test_a_module_without_a_signature_is_not_tried(self, tmp_path):
        with SimulatedHosts(tmp_path, [replace(gpu_1(), secure_boot=True)]) as hosts:
            refused = Subject(hosts["gpu-1"]).refusal(kernel_modules, name="nvidia", state="loaded")
        assert refused.reason == "SecureBootUnsigned"
        assert "nvidia is not signed, and Secure Boot is on: sign it" in refused.message

    def test_a_module_that_the_command_line_keeps_out_is_not_told_to_be_signed(self, gpu):
        gpu.make(kernel_modules, name="nouveau", state="unloaded")
        line = gpu.host.root / "proc/cmdline"
        line.write_text(f"{line.read_text().strip()} module_blacklist=foo,nouveau\n")
        with pytest.raises(Failure, match="nouveau: module_blacklist=foo,nouveau on the kernel's command line keeps"):
            gpu.make(kernel_modules, name="nouveau", state="loaded")

    def test_who_may_load_no_modules_is_told_what_the_kernel_said(self, gpu):
        # The loader of a simulated host gives EPERM here, as the kernel does to a process without CAP_SYS_MODULE.
        (gpu.host.root / "etc/modprobe.d/no.conf").write_text("install vfio_pci /bin/false\n")
        with pytest.raises(Failure, match="could not insert 'vfio_pci': Operation not permitted"):
            gpu.make(kernel_modules, name="vfio_pci", state="loaded")


class TestModules:
    def test_nouveau_is_kept_out_from_the_next_boots_beginning(self, gpu):
        made = gpu.make(kernel_modules, name="nouveau", state="unloaded", blacklisted=True)
        assert (made.before["loaded"], made.before["blacklisted"]) == (True, False)
        assert (made.after["loaded"], made.after["blacklisted"]) == (False, True)
        gpu.host.reboot()
        assert gpu.read(kernel_modules, name="nouveau") == made.after
        assert not gpu.make(kernel_modules, name="nouveau", state="unloaded", blacklisted=True).changed
        back = gpu.make(kernel_modules, name="nouveau", state="loaded", blacklisted=False)
        assert back.after == made.before
        assert gpu.traces() == set()

    def test_an_initramfs_whose_rebuild_was_cut_short_is_built_by_the_next_run(self, gpu):
        image = gpu.host.root / "boot/initrd.img-6.1.0-28-amd64"
        before = image.read_text()
        tool = gpu.host.root / "usr/sbin/update-initramfs"
        kept = tool.read_bytes() if not tool.is_symlink() else None
        target = None if kept is not None else tool.readlink()
        tool.unlink()
        with pytest.raises(Failure, match="update-initramfs is not installed"):
            gpu.make(kernel_modules, name="nouveau", blacklisted=True)
        assert image.read_text() == before
        assert gather_drivers(gpu.tree)["initramfs_due"] == ["nouveau"]
        if target is not None:
            tool.symlink_to(target)
        else:
            tool.write_bytes(kept or b"")
            tool.chmod(0o755)
        made = gpu.make(kernel_modules, name="nouveau", blacklisted=True)
        assert (made.changed, made.before) == (True, {**made.after, "initramfs_due": True})
        assert image.read_text() != before
        assert gather_drivers(gpu.tree)["initramfs_due"] == []
        assert not gpu.make(kernel_modules, name="nouveau", blacklisted=True).changed

    def test_an_initramfs_that_nobody_wanted_built_is_not_due_later(self, gpu):
        gpu.make(kernel_modules, name="nouveau", blacklisted=True, update_initramfs="never")
        assert gather_drivers(gpu.tree)["initramfs_due"] == []
        assert not gpu.make(kernel_modules, name="nouveau", blacklisted=True).changed

    def test_a_module_that_is_held_is_not_unloaded(self, gpu):
        assert gpu.refusal(kernel_modules, name="drm", state="unloaded").message.startswith("drm is held by module ")
        pid = gpu.host.hold(GPU, "Xorg")
        refused = gpu.refusal(kernel_modules, name="nouveau", state="unloaded")
        assert refused.reason == "ModuleInUse"
        assert f"Xorg (pid {pid})" in refused.message

    @pytest.mark.parametrize("args", [{"state": "unloaded"}, {"blacklisted": True}])
    def test_a_module_that_drives_the_root_disk_is_protected(self, gpu, args):
        refused = gpu.refusal(kernel_modules, name="nvme", **args)
        assert (refused.reason, "root disk" in refused.message) == ("ProtectedDevice", True)

    def test_what_an_unloaded_module_needed_stays(self, tmp_path):
        ports = replace(
            gpu_1(),
            modules=(*gpu_1().modules, Module(name="igb_ib", path="kernel/drivers/igb_ib.ko", depends=("igb",))),
        )
        with SimulatedHosts(tmp_path, [ports]) as hosts:
            gpu = Subject(hosts["gpu-1"])
            gpu.make(kernel_modules, name="igb_ib", state="loaded")
            gpu.make(kernel_modules, name="igb_ib", state="unloaded")
            assert gpu.read(kernel_modules, name="igb")["loaded"]

    def test_a_module_of_the_kernels_image_stays(self, gpu):
        assert gpu.refusal(kernel_modules, name="ext4", blacklisted=True).reason == "Unsupported"

    def test_options_and_loading_at_boot_survive_and_go(self, gpu):
        args = {"name": "vfio-pci", "state": "loaded", "boot": True, "options": {"disable_vga": 1, "ids": "10de:1eb8"}}
        made = gpu.make(kernel_modules, **args)
        assert made.after["options"] == {"disable_vga": "1", "ids": "10de:1eb8"}
        gpu.host.reboot()
        assert gpu.host.read("/sys/module/vfio_pci/parameters/ids") == "10de:1eb8"
        assert not gpu.make(kernel_modules, **args).changed
        gone = {"name": "vfio_pci", "state": "unloaded", "boot": False, "options": {"disable_vga": None, "ids": None}}
        assert gpu.make(kernel_modules, **gone).after == made.before
        assert gpu.traces() == set()

    def test_what_another_file_says_already_is_not_said_again(self, gpu):
        (gpu.host.root / "etc/modprobe.d/mine.conf").write_text("options vfio_pci ids=10de:1eb8\nblacklist igbvf\n")
        assert not gpu.make(kernel_modules, name="vfio_pci", options={"ids": "10de:1eb8"}).changed
        assert not gpu.make(kernel_modules, name="igbvf", blacklisted=True).changed

    def test_check_mode_tells_what_a_run_leaves_behind(self, gpu):
        (gpu.host.root / "etc/modprobe.d/a.conf").write_text("options igbvf debug=1\n")
        asked = {"name": "igbvf", "boot": True, "blacklisted": True, "options": {"debug": 2, "more": 3}}
        away = {"name": "igbvf", "boot": False, "blacklisted": False, "options": {"debug": None, "more": None}}
        for args in (asked, away):
            said = gpu.make(kernel_modules, check=True, **args).after
            assert gpu.make(kernel_modules, **args).after == said
        bare = {"loaded": False, "boot": False, "blacklisted": False, "initramfs_due": False}
        assert said == {**bare, "options": {"debug": "1"}}

    def test_another_file_that_has_the_last_word_is_named(self, gpu):
        (gpu.host.root / "etc/modprobe.d/zz.conf").write_text("options vfio_pci ids=1:2\n")
        for _time in ("written", "found written"):
            with pytest.raises(Failure, match=r"/etc/modprobe\.d/zz\.conf sets ids=1:2 after our file"):
                gpu.make(kernel_modules, name="vfio_pci", options={"ids": "10de:1eb8"})

    def test_one_option_in_two_spellings_is_refused(self, gpu):
        with pytest.raises(ValueError, match="given twice"):
            gpu.make(kernel_modules, name="vfio_pci", options={"disable_vga": 1, "disable-vga": 0})

    @pytest.mark.parametrize("check", [True, False])
    def test_another_file_that_keeps_out_or_loads_what_shall_not_be_so_is_named(self, gpu, check):
        for folder, text in (("modprobe.d", "blacklist igbvf\n"), ("modules-load.d", "igbvf\n")):
            (gpu.host.root / "usr/lib" / folder).mkdir(parents=True, exist_ok=True)
            (gpu.host.root / "usr/lib" / folder / "vendor.conf").write_text(text)
        with pytest.raises(Failure, match=r"igbvf: /usr/lib/modprobe\.d/vendor\.conf keeps it out: take it out there"):
            gpu.make(kernel_modules, check=check, name="igbvf", blacklisted=False)
        with pytest.raises(Failure, match=r"igbvf: /usr/lib/modules-load\.d/vendor\.conf loads it at boot"):
            gpu.make(kernel_modules, check=check, name="igbvf", boot=False)

    def test_an_option_that_the_loaded_module_does_not_have_yet_takes_a_boot(self, gpu):
        gpu.make(kernel_modules, name="nvme", options={"poll_queues": 4}, update_initramfs="never")
        assert gpu.make(
            kernel_modules, name="nvme", options={"poll_queues": 4}, update_initramfs="never"
        ).reboot_required

    @pytest.mark.parametrize(
        "options", [{"ids": "1\ninstall x /bin/sh"}, {"ids": 'a"b'}, {"a b": "1"}, {"ids": "1 # 2"}]
    )
    def test_an_option_that_would_be_more_than_one_is_refused(self, gpu, options):
        with pytest.raises(ValueError, match="no option of a module"):
            gpu.make(kernel_modules, name="vfio_pci", options=options)


class TestPackages:
    @pytest.mark.parametrize(
        ("machine", "package"),
        [
            (qat_1(), ("linux-image-6.1.0-28-amd64", "6.1.119-1", "dpkg")),
            (rocky(qat_1()), ("kernel-modules-core", "5.14.0-427.13.1.el9_4", "rpm")),
        ],
        ids=["debian", "rhel"],
    )
    def test_a_module_is_known_by_the_package_that_brought_it(self, tmp_path, machine, package):
        with SimulatedHosts(tmp_path, [machine]) as hosts:
            tree = Subject(hosts["qat-1"]).tree
            modules = {one["name"]: one for one in gather_drivers(tree, packages=True)["modules"]}
        found = modules["qat_4xxx"]
        assert (found["package"], found["installed_version"], found["installed_by"]) == package


class TestKernelArguments:
    def test_they_wait_for_a_boot_and_go_with_another(self, gpu):
        menu = gpu.host.root / "boot/grub/grub.cfg"
        untouched = menu.read_text()
        made = gpu.make(bootargs, args=WANTED)
        assert made.reboot_required
        assert made.after == {"next_boot": WANTED, "running": {"intel_iommu": None, "iommu": None}}
        gpu.host.reboot()
        again = gpu.make(bootargs, args=WANTED)
        assert (again.changed, again.reboot_required, again.after["running"]) == (False, False, WANTED)
        assert gpu.make(bootargs, absent=list(WANTED)).after["next_boot"] == {"intel_iommu": None, "iommu": None}
        assert menu.read_text() == untouched
        assert gpu.traces() == set()

    def test_the_menu_is_not_made_anew_when_nothing_changed(self, gpu):
        gpu.make(bootargs, args=WANTED)
        menu = gpu.host.root / "boot/grub/grub.cfg"
        written_ns = menu.stat().st_mtime_ns
        assert not gpu.make(bootargs, args=WANTED).changed
        assert menu.stat().st_mtime_ns == written_ns

    def test_a_menu_that_was_not_made_before_a_kill_is_made_by_the_next_run(self, gpu):
        menu = gpu.host.root / "boot/grub/grub.cfg"
        untouched = menu.read_text()
        gpu.make(bootargs, args=WANTED)
        menu.write_text(untouched)
        assert gpu.make(bootargs, args=WANTED).changed
        assert gpu.read(bootargs, args=WANTED)["next_boot"] == WANTED

    def test_the_operators_file_is_never_written(self, gpu):
        defaults = gpu.host.root / "etc/default/grub"
        text = 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="quiet iommu=off"\nGRUB_CMDLINE_LINUX="net.ifnames=0"\n'
        defaults.write_text(text)
        made = gpu.make(bootargs, args=WANTED)
        assert made.after["next_boot"] == WANTED
        assert "iommu=off" not in (gpu.host.root / "boot/grub/grub.cfg").read_text().replace("recovery", "")
        assert gpu.make(bootargs, absent=["iommu"]).after["next_boot"] == {"iommu": "off"}
        assert defaults.read_text() == text

    def test_an_argument_that_the_operator_has_is_left_to_him(self, gpu):
        assert not gpu.make(bootargs, args={"quiet": True}).changed
        assert not gpu.make(bootargs, absent=["quiet"]).changed

    def test_a_value_that_needs_quotes_arrives_in_the_kernel(self, gpu):
        gpu.make(bootargs, args={"dyndbg": "file a.c +p; x", "console": ["tty0", "ttyS0"]})
        gpu.host.reboot()
        found = gpu.read(bootargs, args={"dyndbg": "file a.c +p; x", "console": ["tty0", "ttyS0"]})
        assert found["running"] == {"dyndbg": "file a.c +p; x", "console": ["tty0", "ttyS0"]}


class TestKernelArgumentsOfRhel:
    def test_they_wait_for_a_boot_and_go_with_another(self, rhel):
        made = rhel.make(bootargs, args=WANTED)
        assert (made.after["next_boot"], made.reboot_required) == (WANTED, True)
        assert not rhel.make(bootargs, args=WANTED).changed
        assert "intel_iommu=on iommu=pt" in rhel.host.read("/etc/default/grub")
        rhel.host.reboot()
        assert rhel.read(bootargs, args=WANTED)["running"] == WANTED
        assert rhel.make(bootargs, absent=list(WANTED)).after["next_boot"] == {"intel_iommu": None, "iommu": None}
        assert "iommu" not in rhel.host.read("/etc/default/grub")
        assert rhel.traces() == {"etc/cyborg-reconciler"}

    def test_what_they_replaced_comes_back(self, rhel):
        rhel.host.run("grubby", "--update-kernel=ALL", "--args=iommu=off quiet")
        assert rhel.make(bootargs, args={"iommu": "pt"}).after["next_boot"] == {"iommu": "pt"}
        assert rhel.make(bootargs, args={"iommu": "nopt"}).after["next_boot"] == {"iommu": "nopt"}
        assert rhel.make(bootargs, absent=["iommu"]).after["next_boot"] == {"iommu": "off"}
        assert rhel.read(bootargs, args={"quiet": True})["next_boot"] == {"quiet": True}


class TestKernelsToComeOfRhel:
    FILE = "/etc/kernel/cmdline"

    def test_a_kernel_that_is_installed_later_boots_with_them(self, rhel):
        made = rhel.make(bootargs, args=WANTED)
        assert made.before["new_kernels"] == {"intel_iommu": None, "iommu": None}
        assert made.after["new_kernels"] == WANTED
        assert gather_kernel(rhel.tree)["args_configured"][-2:] == ["intel_iommu=on", "iommu=pt"]
        upgrade(rhel.host)
        assert rhel.host.run("uname", "-r").stdout == "6.1.0-99-amd64\n"
        again = rhel.make(bootargs, args=WANTED)
        assert (again.changed, again.after["running"]) == (False, WANTED)

    def test_what_the_operator_has_there_stays_and_what_ours_replaced_comes_back(self, rhel):
        (rhel.host.root / self.FILE[1:]).write_text("root=UUID=1 ro\n# mine\niommu=off crashkernel=1G\n")
        rhel.make(bootargs, args=WANTED)
        if not rhel.host.machine.grubby_syncs:
            assert "\n# mine\ncrashkernel=1G intel_iommu=on iommu=pt" in rhel.host.read(self.FILE)
        gone = rhel.make(bootargs, absent=list(WANTED))
        assert gone.after["new_kernels"] == {"intel_iommu": None, "iommu": "off"}
        assert gone.after["next_boot"] == {"intel_iommu": None, "iommu": None}

    def test_what_the_operator_says_in_the_defaults_after_it_is_what_counts(self, rhel):
        defaults, file = rhel.host.root / "etc/default/grub", rhel.host.root / self.FILE[1:]
        text = defaults.read_text()
        defaults.write_text(text.replace('GRUB_CMDLINE_LINUX="', 'GRUB_CMDLINE_LINUX="audit=1 '))
        assert defaults.read_text() != text
        os.utime(defaults, ns=(0, file.stat().st_mtime_ns + 1))
        assert "audit=1" in gather_kernel(rhel.tree)["args_configured"]
        rhel.make(bootargs, args=WANTED)
        assert not rhel.make(bootargs, args=WANTED).changed
        assert {"audit=1", "intel_iommu=on", "iommu=pt"} <= set(gather_kernel(rhel.tree)["args_configured"])
        upgrade(rhel.host)
        assert {"audit=1", "intel_iommu=on", "iommu=pt"} <= set(rhel.host.read("/proc/cmdline").split())
        rhel.make(bootargs, absent=list(WANTED))
        configured = gather_kernel(rhel.tree)["args_configured"]
        assert "audit=1" in configured
        assert not {"intel_iommu=on", "iommu=pt"} & set(configured)

    def test_a_change_that_was_killed_before_it_wrote_there_is_finished(self, rhel):
        file = rhel.host.root / self.FILE[1:]
        file.write_text("root=UUID=1 ro crashkernel=1G\n")
        rhel.make(bootargs, args=WANTED)
        record = rhel.host.root / "etc/cyborg-reconciler/kernel_args.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "later_counts": True}))
        file.write_text("root=UUID=1 ro crashkernel=1G\n")
        os.utime(file, ns=(0, 0))  # the defaults were written, and this was not
        made = rhel.make(bootargs, args=WANTED)
        assert made.after["new_kernels"] == WANTED
        assert "later_counts" not in record.read_text()
        if not rhel.host.machine.grubby_syncs:  # that one makes the file anew from the entries
            assert "crashkernel=1G" in gather_kernel(rhel.tree)["args_configured"]

    def test_what_was_killed_before_grubby_ran_is_finished_by_the_next_call_about_something_else(self, rhel):
        rhel.make(bootargs, args={"iommu": "pt"})
        record = rhel.host.root / "etc/cyborg-reconciler/kernel_args.json"
        begun = json.loads(record.read_text())
        begun["args"]["intel_iommu"] = "on"
        begun |= {"replaced": {**begun["replaced"], "intel_iommu": []}, "later_counts": True}
        begun["later"]["intel_iommu"] = []
        record.write_text(json.dumps(begun))
        rhel.make(bootargs, args={"nosmt": True})
        expected = {**WANTED, "nosmt": True}
        assert rhel.read(bootargs, args=expected)["next_boot"] == expected
        assert rhel.read(bootargs, args=expected)["new_kernels"] == expected
        assert not rhel.make(bootargs, args=expected).changed
        gone = rhel.make(bootargs, absent=list(expected)).after
        assert set(gone["next_boot"].values()) == set(gone["new_kernels"].values()) == {None}

    def test_a_removal_that_fails_halfway_leaves_the_argument_ours_and_whole(self, rhel):
        rhel.make(bootargs, args=WANTED)
        grubby = rhel.host.root / "usr/sbin/grubby"
        text = grubby.read_bytes()
        grubby.write_text("#!/bin/sh\nexit 1\n")
        with pytest.raises(Failure):
            rhel.make(bootargs, absent=["iommu"])
        grubby.write_bytes(text)
        record = json.loads((rhel.host.root / "etc/cyborg-reconciler/kernel_args.json").read_text())
        assert record["args"] == WANTED
        assert rhel.make(bootargs, absent=["iommu"]).after["next_boot"]["iommu"] is None

    def test_one_that_was_taken_out_by_hand_is_put_back(self, rhel):
        rhel.make(bootargs, args=WANTED)
        file = rhel.host.root / self.FILE[1:]
        file.write_text("root=UUID=1 ro iommu=pt\n")
        checked = rhel.make(bootargs, check=True, args=WANTED)
        made = rhel.make(bootargs, args=WANTED)
        assert (checked.after, made.changed) == (made.after, True)
        assert made.before["new_kernels"] == {"intel_iommu": None, "iommu": "pt"}
        assert not rhel.make(bootargs, args=WANTED).changed

    def test_one_that_the_operator_gave_the_entries_alone_is_given_to_kernels_to_come(self, rhel):
        text = rhel.host.read(self.FILE)
        rhel.host.run("grubby", "--update-kernel=ALL", "--args=iommu=pt")
        (rhel.host.root / self.FILE[1:]).write_text(text)
        made = rhel.make(bootargs, args={"iommu": "pt"})
        assert (made.changed, made.reboot_required) == (True, True)
        assert (made.before["next_boot"], made.before["new_kernels"]) == ({"iommu": "pt"}, {"iommu": None})
        assert rhel.make(bootargs, absent=["iommu"]).after["next_boot"] == {"iommu": "pt"}

    def test_without_the_file_none_is_made(self, rhel):
        (rhel.host.root / self.FILE[1:]).unlink()
        made = rhel.make(bootargs, args=WANTED)
        assert "new_kernels" not in made.before
        assert rhel.host.exists(self.FILE) == rhel.host.machine.grubby_syncs
        assert not rhel.make(bootargs, args=WANTED).changed
        assert rhel.make(bootargs, absent=list(WANTED)).after["next_boot"] == {"intel_iommu": None, "iommu": None}
        if rhel.host.exists(self.FILE):
            assert "iommu" not in rhel.host.read(self.FILE)

    def test_one_that_cannot_be_read_is_unknown_and_nothing_is_changed(self, rhel):
        file = rhel.host.root / self.FILE[1:]
        file.unlink()
        file.mkdir()
        entries = rhel.host.run("grubby", "--info=ALL").stdout
        assert gather_kernel(rhel.tree)["args_configured"] == {"unknown": "/etc/kernel/cmdline: Is a directory"}
        with pytest.raises(Failure, match=r"\(new_kernels\) cannot be read: /etc/kernel/cmdline: Is a directory"):
            rhel.make(bootargs, args=WANTED)
        assert rhel.host.run("grubby", "--info=ALL").stdout == entries

# SPDX-License-Identifier: Apache-2.0
"""Which disk, kernel and initrd do the guests of the lab start from?

Called by the fixtures, and by hand as ``python -m tests.lab.image``. Builds a Debian image with mmdebstrap, as root,
from the mirrors that this machine's own apt names, into the lab's folder, and again only when something that it is made
from has changed.
"""

import lzma
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab import needs
from tests.lab.mirrors import read_apt_options, read_mirrors
from tests.lab.place import digest_of, lab_folder, locked, remove_stale, say

HERE = Path(__file__).parent
SUITE = "bookworm"
DISK_SIZE = "3G"
PACKAGES = (
    *("systemd-sysv", "udev", "kmod", "iproute2", "pciutils", "procps", "psmisc", "zstd"),
    *("openssh-server", "sudo", "python3", "initramfs-tools", "linux-image-amd64", "grub-pc"),
    *("linux-headers-amd64", "gcc", "make", "dkms"),
)
#: What an initrd needs to find the root disk, and the management NIC, so that it is eth0; the rest comes from the disk.
INITRD_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "ext4")
#: Both kinds of guest run with these; the lab's own GRUB configuration holds the same. The timers tick on and on: set
#: for one moment, that of an emulated CPU is lost now and then on a busy machine (seen in 1 of 17 boots), and nothing
#: wakes that CPU any more ("Possible timer handling issue", says the other one after 21 s). So far in none of 50.
KERNEL_ARGS = (
    "console=ttyS0 net.ifnames=0 mitigations=off audit=0 no_timer_check nohz=off highres=off intel_iommu=on iommu=pt"
)
#: Left out of the tree: documents, and the modules of hardware that no guest has. depmod, which DKMS runs whenever it
#: installs or removes something, takes a guest a minute for all of Debian's modules.
UNUSED = (
    *(f"/usr/share/{folder}/*" for folder in ("doc", "man", "info", "locale", "lintian", "bug")),
    "/lib/modules/*/kernel/sound/*",
    *(
        f"/lib/modules/*/kernel/drivers/{folder}/*"
        for folder in (
            *("accessibility", "ata", "atm", "bluetooth", "comedi", "edac", "hid", "hwmon", "iio", "infiniband"),
            *("input", "isdn", "leds", "media", "mmc", "mtd", "net/can", "net/ethernet", "net/hamradio", "net/usb"),
            *("net/wireless", "platform", "scsi", "staging", "thermal", "usb", "w1", "watchdog"),
        )
    ),
    *(
        f"/lib/modules/*/kernel/net/{folder}/*"
        for folder in (
            *("batman-adv", "bluetooth", "can", "dccp", "ieee802154", "mac80211", "mac802154", "mptcp", "netfilter"),
            *("ipv4/netfilter", "ipv6/netfilter", "bridge/netfilter", "nfc", "openvswitch", "rds", "sched", "sctp"),
            *("smc", "sunrpc", "tipc", "wireless"),
        )
    ),
)
USED_ALL_THE_SAME = ("/lib/modules/*/kernel/drivers/net/ethernet/intel/*",)
#: Names all that the image is made from, as it was when this module was loaded: an edit in the middle of a run waits.
DIGEST = digest_of(HERE / "image.py", HERE / "customize.sh")
XZ_MAGIC = b"\xfd7zXZ\x00"
ELF_MAGIC = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class Image:
    """What a guest starts from.

    Attributes:
        digest: names what the image was made from.
        folder: holds the files; never written to once it is there.
    """

    digest: str
    folder: Path

    @property
    def disk(self) -> Path:
        """The root file system, raw; guests write to overlays of it."""
        return self.folder / "root.ext4"

    @property
    def kernel(self) -> Path:
        """The kernel, unpacked: QEMU enters it directly, and no guest spends its time on decompression."""
        return self.folder / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"

    @property
    def user_key(self) -> Path:
        """The private key that the user `lab` of every guest accepts."""
        return self.folder / "user_key"

    @property
    def host_key(self) -> Path:
        """The private host key of a guest that has not been given its own yet."""
        return self.folder / "host_key"


def provide_image() -> Image:
    """Return the image, built first where it is not there yet.

    Raises:
        LabUnavailable: something that the lab needs is missing; the message says how to install it.
    """
    image = Image(DIGEST, lab_folder() / "images" / DIGEST)
    needs.require(root=not image.folder.exists())
    with locked("image"):
        if not image.folder.exists():
            remove_stale(image.folder.parent, keep=image.folder)
            _build(image)
    return image


def _build(image: Image) -> None:
    started = time.monotonic()
    draft = image.folder.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    tree = draft / "tree"
    say(f"building a Debian {SUITE} image in {image.folder.parent} (about two minutes)")
    for key in ("user_key", "host_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {key}", "-f", str(draft / key)], check=True
        )
    _bootstrap(draft, tree)
    say(f"packages installed after {time.monotonic() - started:.0f} s; making the disk")
    (draft / "vmlinux").write_bytes(parse_vmlinuz(_only(tree, "boot/vmlinuz-*").read_bytes()))
    shutil.copy(_only(tree, "boot/initrd.img-*"), draft / "initrd.img")
    disk = draft / "root.ext4"
    subprocess.run(["truncate", "-s", DISK_SIZE, str(disk)], check=True)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-E", "lazy_itable_init=1,nodiscard", "-d", str(tree), str(disk)],
        check=True,
    )
    shutil.rmtree(tree)
    draft.rename(image.folder)
    say(f"image {image.digest} built in {time.monotonic() - started:.0f} s")


def _bootstrap(draft: Path, tree: Path) -> None:
    initramfs = (
        'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"; '
        'printf "MODULES=list\\nCOMPRESSLEVEL=1\\n" > "$1/etc/initramfs-tools/conf.d/lab"; '
        f'printf "%s\\n" {" ".join(INITRD_MODULES)} > "$1/usr/share/initramfs-tools/modules.d/lab"'
    )
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", f"--include={','.join(PACKAGES)}"]
    command += [f"--dpkgopt=path-exclude={path}" for path in UNUSED]
    command += [f"--dpkgopt=path-include={path}" for path in USED_ALL_THE_SAME]
    command += ["--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none"]
    command += [f"--aptopt={option}" for option in read_apt_options()]
    command += [f"--essential-hook={initramfs}", f"--customize-hook={HERE / 'customize.sh'}"]
    environment = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        "LAB_USER_KEY": str(draft / "user_key"),
        "LAB_HOST_KEY": str(draft / "host_key"),
        "LAB_KERNEL_ARGS": KERNEL_ARGS,
    }
    log = draft / "mmdebstrap.log"
    with log.open("w") as output:
        done = subprocess.run(
            [*command, SUITE, str(tree), *read_mirrors(SUITE)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise needs.LabUnavailable(f"mmdebstrap ended with {done.returncode}:\n{tail}")


def parse_vmlinuz(content: bytes) -> bytes:
    """Return the ELF kernel packed in a vmlinuz; Debian's is xz in this release.

    Raises:
        LabUnavailable: there is none in it.
    """
    start = content.find(XZ_MAGIC)
    if start >= 0:
        kernel = lzma.LZMADecompressor().decompress(content[start:])
        if kernel.startswith(ELF_MAGIC):
            return kernel
    raise needs.LabUnavailable("the kernel's vmlinuz holds no xz-packed ELF; image.py must learn its packing")


def _only(tree: Path, pattern: str) -> Path:
    found = sorted(tree.glob(pattern))
    if len(found) != 1:
        raise needs.LabUnavailable(f"the image should hold one {pattern}, and holds {[path.name for path in found]}")
    return found[0]


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{provide_image().folder}\n")
    except needs.LabUnavailable as error:
        sys.exit(f"lab: {error}")

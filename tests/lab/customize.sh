#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Turn a fresh Debian tree into a host of the lab. mmdebstrap runs this as its customize hook, as root on the building
# machine, with the tree as $1; LAB_USER_KEY and LAB_HOST_KEY name the key pairs that `image.py` made.
set -eu
root=$1

# --- who it is -------------------------------------------------------------------------------------------------------
echo lab >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 lab\n' >"$root/etc/hosts"
rm -f "$root/etc/resolv.conf" "$root"/etc/ssh/ssh_host_*
install -m600 "$LAB_HOST_KEY" "$root/etc/ssh/ssh_host_ed25519_key"
install -m644 "$LAB_HOST_KEY.pub" "$root/etc/ssh/ssh_host_ed25519_key.pub"

# --- an ordinary user with sudo ----------------------------------------------------------------------------------------
chroot "$root" useradd --create-home --shell /bin/bash --password '*' lab
install -d -m700 "$root/home/lab/.ssh"
install -m600 "$LAB_USER_KEY.pub" "$root/home/lab/.ssh/authorized_keys"
chroot "$root" chown -R lab:lab /home/lab
echo 'lab ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/lab"
chmod 440 "$root/etc/sudoers.d/lab"
printf 'UseDNS no\nPermitRootLogin no\nPasswordAuthentication no\n' >"$root/etc/ssh/sshd_config.d/lab.conf"

# --- disk and network --------------------------------------------------------------------------------------------------
echo '/dev/vda / ext4 defaults,noatime 0 0' >"$root/etc/fstab"
# Addresses are those of QEMU's user network. A unit with a few commands: networkd takes a guest under TCG ten seconds.
# eth0 it is: the initrd loads virtio_net before anything loads igb.
cat >"$root/etc/systemd/system/management-network.service" <<'UNIT'
[Unit]
Description=Address and default route of the management NIC
DefaultDependencies=no
After=systemd-remount-fs.service
Before=network.target
Wants=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip link set lo up
ExecStart=/sbin/ip link set eth0 up
ExecStart=/sbin/ip address add 10.0.2.15/24 dev eth0
ExecStart=/sbin/ip route add default via 10.0.2.2
[Install]
WantedBy=multi-user.target
UNIT

# --- a boot loader's configuration, used by guests that boot by themselves ------------------------------------------------
install -d "$root/etc/default/grub.d"
cat >"$root/etc/default/grub.d/lab.cfg" <<GRUB
GRUB_CMDLINE_LINUX="$LAB_KERNEL_ARGS"
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_TIMEOUT=0
GRUB_DISABLE_OS_PROBER=true
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB

# --- nothing that wakes up by itself, nothing that only costs time ---------------------------------------------------------
systemctl --quiet --root="$root" enable management-network.service ssh.service
systemctl --quiet --root="$root" set-default multi-user.target
systemctl --quiet --root="$root" mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer dpkg-db-backup.timer systemd-tmpfiles-clean.timer \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-pstore.service systemd-repart.service \
    systemd-network-generator.service systemd-sysusers.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-journal-flush.service \
    modprobe@dm_mod.service modprobe@fuse.service modprobe@loop.service sys-fs-fuse-connections.mount \
    dev-mqueue.mount sys-kernel-tracing.mount getty-static.service getty@tty1.service

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
# Addresses are those of QEMU's user network. Static: a restricted one hands out no default route, and hosts have one.
cat >"$root/etc/systemd/network/10-management.network" <<'NETWORK'
[Match]
Driver=virtio_net
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
IPv6AcceptRA=no
LinkLocalAddressing=no
NETWORK

# --- a boot loader's configuration, used by guests that boot by themselves ------------------------------------------------
install -d "$root/etc/default/grub.d"
cat >"$root/etc/default/grub.d/lab.cfg" <<GRUB
GRUB_CMDLINE_LINUX="$LAB_KERNEL_ARGS"
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_TIMEOUT=0
GRUB_DISABLE_OS_PROBER=true
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB

# --- nothing that wakes up by itself -------------------------------------------------------------------------------------
systemctl --quiet --root="$root" enable systemd-networkd.service ssh.service
systemctl --quiet --root="$root" mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer dpkg-db-backup.timer systemd-networkd-wait-online.service systemd-update-utmp.service \
    systemd-pstore.service getty@tty1.service

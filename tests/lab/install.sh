#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Install what the lab of virtual hosts needs on a Debian machine: QEMU 8 or newer (igb came with 8.0), qemu-img,
# mmdebstrap, e2fsprogs, an ssh client. Run as root; `.ci/run` calls it. Idempotent: a second run installs nothing.
#
# Where the release's own QEMU is too old, the release's backports are added, at the address the machine's own
# Debian source already names, so that a machine behind a mirror stays behind it.
set -eu

QEMU_MAJOR=8
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
BACKPORTS=/etc/apt/sources.list.d/cyborg-lab-backports.sources
export DEBIAN_FRONTEND=noninteractive

say() { printf 'lab: %s\n' "$*"; }
fail() {
    printf 'lab: %s\n' "$*" >&2
    exit 1
}
apt() { apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"; }

qemu_installed() {
    command -v qemu-system-x86_64 >/dev/null && command -v qemu-img >/dev/null || return 1
    version=$(qemu-system-x86_64 --version | sed -n '1s/.*version \([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge "$QEMU_MAJOR" ]
}

# The major version of QEMU that apt would take from suite $1 (empty: the machine's own choice); 0 when it has none.
qemu_offered() {
    found=$(apt-get ${1:+-t "$1"} -s install --no-install-recommends qemu-system-x86 2>/dev/null |
        sed -n 's/^Inst qemu-system-x86 .*(\([0-9]*:\)\{0,1\}\([0-9]*\)\..*/\2/p')
    printf '%s' "${found:-0}"
}

# The address of Debian's main archive as this machine names it.
debian_uri() {
    apt-get indextargets --format '$(CREATED_BY)|$(CODENAME)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' |
        awk -F"|" -v codename="$1" '$1 == "Packages" && $2 == codename && $3 == "Debian" && $4 == "main" { print $5; exit }'
}

add_backports() {
    uri=$(debian_uri "$1")
    [ -n "$uri" ] || fail "no apt source for Debian $1 main: add one, then run this again"
    {
        printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n' "$uri" "$1"
        # Without the keyring's package apt checks against its own trusted keys.
        [ ! -e "$KEYRING" ] || printf 'Signed-By: %s\n' "$KEYRING"
    } >"$BACKPORTS"
    say "added $1-backports in $BACKPORTS"
}

[ "$(id -u)" = 0 ] || fail "must run as root: sudo $0"
command -v apt-get >/dev/null || fail "needs a Debian machine (apt-get not found): install QEMU $QEMU_MAJOR or newer and mmdebstrap yourself"

wanted=""
command -v mmdebstrap >/dev/null || wanted="$wanted mmdebstrap"
command -v mke2fs >/dev/null || wanted="$wanted e2fsprogs"
command -v ssh >/dev/null || wanted="$wanted openssh-client"
command -v zstd >/dev/null || wanted="$wanted zstd"
command -v xz >/dev/null || wanted="$wanted xz-utils"
if [ -z "$wanted" ] && qemu_installed; then
    say "nothing to install: $(qemu-system-x86_64 --version | sed -n 1p)"
    exit 0
fi

apt update
codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
suite=""
if ! qemu_installed; then
    if [ "$(qemu_offered "")" -lt "$QEMU_MAJOR" ]; then
        suite=$codename-backports
        if [ "$(qemu_offered "$suite")" -lt "$QEMU_MAJOR" ]; then
            add_backports "$codename"
            apt update
        fi
    fi
    wanted="$wanted qemu-utils qemu-system-x86"
fi
# shellcheck disable=SC2086 # a list of package names
apt ${suite:+-t "$suite"} install -y --no-install-recommends $wanted
qemu_installed || fail "QEMU is still older than $QEMU_MAJOR: $(qemu-system-x86_64 --version | sed -n 1p)"
say "ready: $(qemu-system-x86_64 --version | sed -n 1p)"

#!/usr/bin/env bash
# Run the Dockerfile's steps where there is no container engine: in a fresh Debian folder, entered by chroot.
#
#   scripts/check-dockerfile.sh            needs root, apt, and a few minutes; leaves nothing behind
#
# debootstrap comes from the machine's apt sources without being installed, and so does the base system. The machine's own
# settings for pip and TLS are lent to the steps, since what a container engine would reach directly may here be behind
# a proxy. scripts/dockerfile.py reads the Dockerfile and plays it.
set -euo pipefail

cd "$(dirname "$0")/.."
. scripts/private-apt.sh

fail() {
    printf 'check-dockerfile: %s\n' "$@" >&2
    exit 1
}

[[ $(id -u) == 0 ]] || fail "chroot needs root"
for tool in apt-get dpkg-deb wget unshare chroot python3; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done

suite=$(sed -n 's/^FROM debian:\([a-z]*\)-slim.*/\1/p' Dockerfile | head -n 1)
[[ -n $suite ]] || fail "the Dockerfile does not start from debian:SUITE-slim"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/sipbridge-dockerfile.XXXXXX")
trap 'rm -rf --one-file-system -- "$work"' EXIT
chmod 755 "$work"

private_apt "$work/apt"
apt-get -c "$work/apt/apt.conf" update >"$work/apt.log" 2>&1 || { tail "$work/apt.log" >&2; fail "apt-get update failed"; }
(cd "$work" && apt-get -c apt/apt.conf download debootstrap >>apt.log 2>&1) || fail "debootstrap could not be downloaded"
dpkg-deb --extract "$work"/debootstrap_*.deb "$work/debootstrap"
mirror=$(apt-get -c "$work/apt/apt.conf" indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' | head -n 1)

echo "check-dockerfile: a fresh $suite"
DEBOOTSTRAP_DIR=$work/debootstrap/usr/share/debootstrap "$work/debootstrap/usr/sbin/debootstrap" \
    --variant=minbase "$suite" "$work/base" "$mirror" >"$work/debootstrap.log" 2>&1 ||
    { tail "$work/debootstrap.log" >&2; fail "debootstrap failed"; }

# What the machine's network asks for, and an image would not contain.
lend() { # FILE, to the same place
    if [[ -f $1 ]]; then mkdir -p "$work/base$(dirname "$1")" && cp -L -- "$1" "$work/base$1"; fi
}
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf "${PIP_CONFIG_FILE:-$HOME/.config/pip/pip.conf}" \
    /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf.d/*registry*; do
    lend "$file"
done
# Under a name of its own: the steps install ca-certificates, which would replace the machine's bundle.
certificates=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
lent=()
if [[ -f $certificates ]]; then
    cp -L -- "$certificates" "$work/base/lent-certificates.crt"
    lent=(--lend PIP_CERT=/lent-certificates.crt --lend SSL_CERT_FILE=/lent-certificates.crt)
fi

python3 scripts/dockerfile.py --base "debian:$suite-slim=$work/base" --work "$work" "${lent[@]}" Dockerfile

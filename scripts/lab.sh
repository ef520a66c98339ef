#!/usr/bin/env bash
# Install the real peers that tests/interop talks to (SIPp, baresip, espeak-ng) into a folder of the project's own.
#
#   scripts/lab.sh            install what is missing; at once when nothing is
#   scripts/lab.sh --remove   delete the folder
#
# SIPBRIDGE_LAB names the folder (default: .lab). Nothing is installed system-wide, nothing starts by itself, and root
# is not needed: apt works on a private, empty package database, so that it fetches every library down to the C library,
# and the programs are run by the dynamic loader that came with them. What comes from where is the machine's own
# business: its apt sources are used as they are.
set -euo pipefail

VERSION=1 # raise when what is done below changes
PACKAGES=(sip-tester baresip-core espeak-ng)
PROGRAMS=(sipp baresip espeak-ng)

cd "$(dirname "$0")/.."
. scripts/private-apt.sh
lab=${SIPBRIDGE_LAB:-.lab}
mkdir -p "$(dirname "$lab")"
lab=$(cd "$(dirname "$lab")" && pwd)/$(basename "$lab")

if [[ ${1:-} == --remove ]]; then
    rm -rf -- "$lab" "$lab".new.* "$lab.lock"
    exit 0
fi

fail() {
    printf 'lab: %s\n' "$@" >&2
    exit 1
}

wanted="$VERSION $lab ${PACKAGES[*]}"
[[ -f $lab/stamp && $(<"$lab/stamp") == "$wanted" ]] && exit 0

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail \
        "$tool is missing: the peers (${PROGRAMS[*]}) come as Debian packages." \
        "On another system install them yourself; the tests use what is on PATH and skip the rest."
done

# Two starts at once: the second waits, then finds the work done.
exec 9>"$lab.lock"
if command -v flock >/dev/null; then flock 9; fi
[[ -f $lab/stamp && $(<"$lab/stamp") == "$wanted" ]] && exit 0

# Everything happens in a folder beside the final one and takes its place at the end: an interrupted run leaves no
# half-finished lab behind.
rm -rf -- "$lab".new.*
new=$(mktemp -d "$lab.new.XXXXXX")
chmod 755 "$new"
trap 'rm -rf -- "$new"' EXIT
log=$new/apt.log

mkdir -p "$new"/{root,bin}
private_apt "$new/apt"

download() {
    apt-get -c "$new/apt/apt.conf" update >>"$log" 2>&1 &&
        apt-get -c "$new/apt/apt.conf" --download-only install "${PACKAGES[@]}" >>"$log" 2>&1
}

echo "lab: fetching ${PACKAGES[*]} and what they need (once, about 90 MB)"
if ! download; then
    echo "lab: the download failed, trying once more"
    if ! download; then
        tail -n 15 "$log" >&2
        fail "the packages could not be fetched with this machine's apt sources (above: apt's last words)."
    fi
fi

for package in "$new"/apt/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$new/root"
done
rm -rf -- "$new/apt" "$new"/root/usr/share/{doc,man,info,locale,lintian}

# The wrappers carry the final path: the folder is renamed below.
triplet=$(basename "$(dirname "$(find "$new/root" -name 'libc.so.6' -print -quit)")")
loader=$(find "$new/root" -path "*/$triplet/ld-linux*.so.*" -print -quit)
[[ -n $loader ]] || fail "no dynamic loader among the unpacked packages"
loader=$lab${loader#"$new"}
libraries=$lab/root/lib/$triplet:$lab/root/usr/lib/$triplet:$lab/root/usr/lib/$triplet/pulseaudio
for program in "${PROGRAMS[@]}"; do
    cat >"$new/bin/$program" <<END
#!/bin/sh
export ESPEAK_DATA_PATH='$lab/root/usr/lib/$triplet'
exec '$loader' --library-path '$libraries' '$lab/root/usr/bin/$program' "\$@"
END
    chmod 755 "$new/bin/$program"
done

rm -rf -- "$lab"
mv -- "$new" "$lab"

# Only what has run once is installed. The exit status does not tell: `sipp -v` prints its version and ends with 99.
runs() { # PROGRAM ARGUMENT EXPECTED
    local output
    output=$("$lab/bin/$1" "$2" 2>&1 </dev/null) || true
    [[ $output == *"$3"* ]] || fail "$1 was unpacked but does not run:" "$output"
}
runs sipp -v 'SIPp v'
runs baresip -h 'Usage'
runs espeak-ng --version 'eSpeak'
printf '%s' "$wanted" >"$lab/stamp"
echo "lab: ${PROGRAMS[*]} are in $lab/bin"

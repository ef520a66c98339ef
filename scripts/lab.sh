#!/usr/bin/env bash
# Install the real peers that tests/interop talks to (SIPp, baresip, Kamailio, Asterisk, PostgreSQL), espeak-ng and
# tshark into a folder of the project's own.
#
#   scripts/lab.sh            install what is missing; at once when nothing is
#   scripts/lab.sh --remove   delete the folder
#
# SIPBRIDGE_LAB names the folder (default: .lab). Nothing is installed system-wide, nothing starts by itself, and root
# is not needed: apt works on a private, empty package database, so that it fetches every library down to the C library,
# and the programs are run by the dynamic loader that came with them. What comes from where is the machine's own
# business: its apt sources are used as they are.
#
# Asterisk is not in every suite of Debian, so it is looked for in the machine's own suites first and then in others of
# the same mirror; it brings its own C library and has a folder to itself. Where there is none, the others are installed
# all the same, but not in CI, where a missing peer is a failure.
set -euo pipefail

VERSION=4 # raise when what is done below changes
PACKAGES=(sip-tester baresip-core espeak-ng kamailio kamailio-tls-modules tshark postgresql)
PROGRAMS=(sipp baresip espeak-ng kamailio tshark initdb postgres)
ASTERISK_SUITES=(sid testing stable)
ASTERISK_OLDEST=20
# What packages ask for, and what is used of them here does not: three quarters of the download.
WITHOUT=(adduser base-passwd debconf dirmngr dpkg 'gnupg.*' 'gpg.*' 'init-system.*' login.defs 'passwd' 'perl.*' 'pinentry.*'
    'python3.*' pci.ids readline-common tar tzdata usrmerge 'asterisk-config' 'asterisk-core-sounds-.*'
    openssl-provider-legacy 'libc-gconv.*' 'lib.*-perl' 'libx11-data'
    'lib(codec2|db5|directfb|drm|elf|gl[0-9x]|glapi|gles|glvnd|gmime|gpgme|ical3|jack|llvm)[-.0-9].*'
    'lib(mariadb|neon|odbc|pam-.*|perl|portaudio|python3|radcli|semanage|sensors|sepol)[-.0-9].*' 'libpam-.*'
    'postgresql' 'postgresql-(client|common).*' 'sensible-utils' 'ssl-cert' 'sysvinit-utils' 'ucf' 'netbase' 'locales' 'libc-l10n'
    'lib(snmp|sybdb|unbound|vpx|xcb-.*|z3-)[-.0-9a-z]*')
# What tshark needs and Asterisk does not.
ASTERISK_WITHOUT=('lib(glib2|gmp|gnutls|hogweed|icu|lua|nettle|p11-kit|pam|pcre2|pq)[-.0-9].*')

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

wanted="$VERSION $lab ${PACKAGES[*]} asterisk"
incomplete="$wanted: without asterisk"
ready() {
    local stamp
    [[ -f $lab/stamp ]] || return 1
    stamp=$(<"$lab/stamp")
    [[ $stamp != "$wanted" ]] || return 0
    [[ $stamp == "$incomplete" && ${CI:-} != true ]] || return 1
    echo "lab: there is no Asterisk in $lab (scripts/lab.sh --remove, then again: tries once more)"
}
if ready; then exit 0; fi

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail \
        "$tool is missing: the peers (${PROGRAMS[*]} asterisk) come as Debian packages." \
        "On another system install them yourself; the tests use what is on PATH and skip the rest."
done

# Two starts at once: the second waits, then finds the work done.
exec 9>"$lab.lock"
if command -v flock >/dev/null; then flock 9; fi
if ready; then exit 0; fi

# Everything happens in a folder beside the final one and takes its place at the end: an interrupted run leaves no
# half-finished lab behind.
rm -rf -- "$lab".new.*
new=$(mktemp -d "$lab.new.XXXXXX")
chmod 755 "$new"
trap 'rm -rf -- "$new"' EXIT
log=$new/apt.log
mkdir -p "$new"/{root,asterisk,bin}

twice() { # COMMAND...: networks have hiccups
    "$@" >>"$log" 2>&1 && return
    echo "lab: that failed, trying once more"
    "$@" >>"$log" 2>&1
}

packages() { # APT'S FOLDER, NAME...: what installing these would fetch, less what is not used
    local folder=$1 without=("${WITHOUT[@]}")
    shift
    if [[ $* == asterisk ]]; then without+=("${ASTERISK_WITHOUT[@]}"); fi
    apt-get -c "$folder/apt.conf" --simulate install "$@" 2>>"$log" | awk '$1 == "Inst" { print $2 }' |
        grep -vxE "$(IFS='|' && echo "${without[*]}")"
}

fetch() { # APT'S FOLDER, NAME...
    local names
    names=$(packages "$@") || return 1
    mkdir -p "$1/packages"
    # shellcheck disable=SC2086 # one word per package
    (cd "$1/packages" && twice apt-get -c "$1/apt.conf" download $names)
}

unpack() { # FOLDER of packages, FOLDER
    local package
    for package in "$1"/*.deb; do dpkg-deb --extract "$package" "$2"; done
    rm -rf -- "$2"/usr/share/{doc,man,info,locale,lintian,perl*}
}

wrap() { # PROGRAM (its path within the root), the root's name, ARGUMENTS it is always given
    local program=$1 root=$2 triplet loader libraries
    shift 2
    triplet=$(basename "$(dirname "$(find "$new/$root" -name 'libc.so.6' -print -quit)")")
    loader=$(find "$new/$root" -path "*/$triplet/ld-linux*.so.*" -print -quit)
    [[ -n $loader ]] || fail "no dynamic loader among the unpacked packages"
    # The wrappers carry the final path: the folder is renamed below.
    loader=$lab${loader#"$new"}
    libraries=$lab/$root/lib/$triplet:$lab/$root/usr/lib/$triplet:$lab/$root/usr/lib/$triplet/pulseaudio
    libraries+=:$lab/$root/usr/lib/$triplet/kamailio
    cat >"$new/bin/$(basename "$program")" <<END
#!/bin/sh
export ESPEAK_DATA_PATH='$lab/$root/usr/lib/$triplet'
exec '$loader' --library-path '$libraries' '$lab/$root/$program' ${*//TRIPLET/$triplet} "\$@"
END
    chmod 755 "$new/bin/$(basename "$program")"
}

echo "lab: fetching ${PACKAGES[*]} and what they need (once, about 95 MB)"
private_apt "$new/apt"
if ! { twice apt-get -c "$new/apt/apt.conf" update && fetch "$new/apt" "${PACKAGES[@]}"; }; then
    tail -n 15 "$log" >&2
    fail "the packages could not be fetched with this machine's apt sources (above: apt's last words)."
fi
unpack "$new/apt/packages" "$new/root"
rm -rf -- "$new/apt/packages"

# Asterisk: the first suite that has one new enough.
offered() { # APT'S FOLDER: the major version that its sources have
    apt-cache -c "$1/apt.conf" show --no-all-versions asterisk 2>/dev/null | sed -nE 's/^Version: ([0-9]+:)?([0-9]+).*/\2/p'
}
fetch_asterisk() { # APT'S FOLDER
    local major
    major=$(offered "$1")
    [[ -n $major && $major -ge $ASTERISK_OLDEST ]] && fetch "$1" asterisk
}
find_asterisk() {
    local mirror suite
    fetch_asterisk "$new/apt" && unpack "$new/apt/packages" "$new/asterisk" && return
    mirror=$(apt-get -c "$new/apt/apt.conf" indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
        'Origin: Debian' 'Label: Debian' 'Component: main' | head -n 1)
    [[ -n $mirror ]] || return 1
    for suite in "${ASTERISK_SUITES[@]}"; do
        echo "lab: fetching Asterisk from Debian's suite $suite (once, about 35 MB with the index)"
        private_apt "$new/apt-$suite" "$mirror" "$suite"
        if twice apt-get -c "$new/apt-$suite/apt.conf" update && fetch_asterisk "$new/apt-$suite"; then
            unpack "$new/apt-$suite/packages" "$new/asterisk"
            return
        fi
    done
    return 1
}
stamp=$wanted
if find_asterisk; then
    wrap usr/sbin/asterisk asterisk
else
    tail -n 15 "$log" >&2
    [[ ${CI:-} != true ]] || fail "no suite of this machine's mirror gave an Asterisk >= $ASTERISK_OLDEST"
    echo "lab: no suite of this machine's mirror gave an Asterisk >= $ASTERISK_OLDEST: going on without" >&2
    stamp=$incomplete
fi
rm -rf -- "$new"/apt "$new"/apt-*

for program in sipp baresip espeak-ng tshark; do wrap "usr/bin/$program" root; done
wrap usr/sbin/kamailio root -L "'$lab/root/usr/lib/TRIPLET/kamailio/modules'"
# initdb starts the postgres beside it, so that one has to be the wrapper.
postgresql=$(cd "$new/root" && echo usr/lib/postgresql/*/bin)
mv "$new/root/$postgresql/postgres" "$new/root/$postgresql/postgres.program"
wrap "$postgresql/postgres.program" root
mv "$new/bin/postgres.program" "$new/root/$postgresql/postgres"
ln -s "../root/$postgresql/postgres" "$new/bin/postgres"
wrap "$postgresql/initdb" root

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
runs kamailio -v 'version: kamailio'
runs tshark -v 'TShark '
runs initdb --version 'initdb (PostgreSQL)'
runs postgres --version 'postgres (PostgreSQL)'
[[ $stamp == "$incomplete" ]] || runs asterisk -V 'Asterisk '
printf '%s' "$stamp" >"$lab/stamp"
[[ $stamp == "$incomplete" ]] || PROGRAMS+=(asterisk)
echo "lab: ${PROGRAMS[*]} are in $lab/bin"

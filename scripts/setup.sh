#!/usr/bin/env bash
# Make a virtual environment with sipbridge in it, editable; at once when it is already as it should be.
#
#   scripts/setup.sh .venv fast           what `make run` needs
#   scripts/setup.sh .venv fast,test      what `make test` needs
#   scripts/setup.sh .venv-3.13 test 3.13
set -euo pipefail

folder=$1 extras=$2 exact=${3:-}
cd "$(dirname "$0")/.."

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

compiler_hint="no C compiler (cc) was found: a package without a ready-made wheel cannot be built.
       On Debian: apt-get install build-essential python3-dev"

# What the environment depends on. Every set of extras has a stamp of its own, so that `make run` after `make test` has
# nothing to do.
wanted="$PWD $(cksum <pyproject.toml) $(cksum <scripts/setup.sh)"
stamp() { echo "$folder/.stamp-${1//,/-}"; }
# An environment whose interpreter went away, or that moved, is of no use: begin again.
if [[ -e $folder ]] && ! { [[ -f $folder/.path && $(<"$folder/.path") == "$PWD" ]] && "$folder/bin/python" -c '' 2>/dev/null; }; then
    rm -rf -- "$folder"
fi
[[ -f $(stamp "$extras") && $(<"$(stamp "$extras")") == "$wanted" ]] && exit 0

if [[ ! -e $folder ]]; then
    python=$(scripts/python.sh $exact) || fail "no usable Python, see above."
    echo "setup: $("$python" --version) in $folder"
    "$python" -m venv "$folder"
    printf '%s' "$PWD" >"$folder/.path"
fi

echo "setup: installing sipbridge[$extras] into $folder (once; a few dozen packages are fetched)"
install() {
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
}
# Once more, since a package index may be unreachable for a moment.
if ! install && ! install; then
    command -v cc >/dev/null || command -v gcc >/dev/null || fail "$compiler_hint"
    fail "the Python packages could not be installed (above: pip's words)."
fi
for set in "$extras" ${extras//,/ }; do # who has both has each
    printf '%s' "$wanted" >"$(stamp "$set")"
done

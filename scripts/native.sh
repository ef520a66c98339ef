#!/usr/bin/env bash
# Build the package with its media plane compiled (mypyc: the same sources, a third of the time) and unpack it.
#
#   scripts/native.sh           into build/native/, for `make bench` and the tests of the compiled modules
#
# To install it instead: HATCH_BUILD_HOOKS_ENABLE=1 .venv/bin/pip install . (a C compiler and Python's headers are needed).
set -euo pipefail

cd "$(dirname "$0")/.."
python=.venv/bin/python
folder=build/native
wanted="$("$python" --version) $(cat pyproject.toml $(git ls-files 'sipbridge/*.py') | cksum)"
[[ -f $folder/.stamp && $(<"$folder/.stamp") == "$wanted" ]] && exit 0
if ! scripts/can-build.sh; then
    echo "native: no C compiler or no Python headers here, left out"
    [[ ${CI:-} != true ]] # there it was to be tested
    exit
fi
rm -rf "$folder"
mkdir -p "$folder"
echo "native: compiling the media plane into $folder (half a minute)"
# From a copy: the compiler leaves what it makes beside the sources, where it would be taken for them.
mkdir "$folder/src"
cp -r pyproject.toml README.md LICENSE sipbridge "$folder/src"
HATCH_BUILD_HOOKS_ENABLE=1 "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder" \
    "$folder/src"
"$python" -m zipfile --extract "$folder"/sipbridge-*.whl "$folder"
rm -r "$folder/src" "$folder"/sipbridge-*.whl
printf '%s' "$wanted" >"$folder/.stamp"

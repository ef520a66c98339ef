#!/usr/bin/env bash
# Print a Python interpreter that really works, or say on stderr which package is missing.
#
#   scripts/python.sh           Python 3.11 or newer, with venv
#   scripts/python.sh 3.13      exactly this version, with venv; silence and exit 1 where there is none
#
# PYTHON names one to use instead. "Works" is tried, not assumed: a version manager's shim may exist on PATH for a
# version that is not selected, and Debian's python3 comes without venv.
set -uo pipefail

exact=${1:-}
shopt -s nullglob
if [[ -n $exact ]]; then
    candidates=("python$exact" python3 "$HOME"/.pyenv/versions/"$exact"*/bin/python)
elif [[ -n ${PYTHON:-} ]]; then
    candidates=("$PYTHON")
else
    candidates=(python3 python3.13 python3.12 python3.11 /usr/bin/python3 "$HOME"/.pyenv/versions/3.1[1-3]*/bin/python)
fi

version_test='import sys; sys.exit(not (sys.version_info >= (3, 11) and sys.argv[1] in ("", "%d.%d" % sys.version_info[:2])))'
found=
for candidate in "${candidates[@]}"; do
    "$candidate" -c "$version_test" "$exact" >/dev/null 2>&1 || continue
    found=$candidate
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        # The real interpreter behind a shim: it keeps working where another version gets selected.
        "$candidate" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done

[[ -n $exact ]] && exit 1
if [[ -n $found ]]; then
    version=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "$found (Python $version) has no venv. On Debian: apt-get install python3-venv (or python$version-venv)" >&2
elif command -v python3 >/dev/null; then
    echo "sipbridge needs Python 3.11 or newer; python3 is $(python3 --version 2>&1 | head -n 1). On Debian 12 or newer:" \
        "apt-get install python3 python3-venv" >&2
else
    echo "python3 is missing. On Debian: apt-get install python3 python3-venv" >&2
fi
exit 1

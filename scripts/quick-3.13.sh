#!/usr/bin/env bash
# The tests that need no peer, on Python 3.13 where there is one beside the interpreter that everything else uses.
#
#   scripts/quick-3.13.sh .venv-3.13 [PYTEST ARGUMENTS]
set -euo pipefail

cd "$(dirname "$0")/.."
folder=$1
shift
if .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then
    exit 0 # the main environment is at least as new
fi
if ! scripts/python.sh 3.13 >/dev/null; then
    echo "quick-3.13: no Python 3.13 here, skipped"
    exit 0
fi
scripts/setup.sh "$folder" "${TEST_EXTRAS:-test}" 3.13
echo "quick-3.13: tests without peers on $("$folder/bin/python" --version)"
"$folder/bin/python" -m pytest -q -p no:cacheprovider -m "not slow and not interop" "$@"

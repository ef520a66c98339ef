#!/usr/bin/env bash
# The tests of the compiled modules, on the compiled modules: the package that is imported first is the one beside which
# pytest is started.
set -euo pipefail

cd "$(dirname "$0")/../build/native" 2>/dev/null || exit 0 # nothing could be compiled here
../../.venv/bin/python -m pytest -p sipbridge -c ../../pyproject.toml --rootdir ../.. -q -p no:cacheprovider \
    -m "not slow" ../../tests/{codecs,media,call,providers,loopback}

#!/usr/bin/env bash
# Exit status 0 where a Python package that comes as C source can be built: a compiler, and Python's headers.
cd "$(dirname "$0")/.." || exit 1
command -v cc >/dev/null || exit 1
python=$(scripts/python.sh 2>/dev/null) || exit 1
"$python" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'

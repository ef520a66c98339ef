# Everything sets itself up: `make run` and `make test` need git, make and python3 (>= 3.11) with venv.
.DEFAULT_GOAL := help
.PHONY: help run test test-all peers pbx phones real-time-1 real-time-2 quick quick-3.13 cores cores-3.13 lint types format bench setup setup-test lab clean

PYTHON_BIN := .venv/bin
# Where a second Python is found, the tests that need no peer run on it too (see scripts/python.sh).
SECOND := .venv-3.13
# PESQ comes as C source: without a compiler and Python's headers the tests of speech quality are skipped (in CI they fail).
TEST_EXTRAS = test$(shell scripts/can-build.sh && echo ,quality)
# These measure by the clock: nothing that keeps a processor busy may run beside them.
IN_REAL_TIME := tests/loopback tests/simulator
REAL_TIME = $(PYTHON_BIN)/pytest -q -p no:cacheprovider -m "not slow and not interop"
# Tests find espeak-ng where `make lab` put it.
SIPBRIDGE_LAB ?= $(CURDIR)/.lab
export SIPBRIDGE_LAB
test test-all pbx phones real-time-1 real-time-2 quick quick-3.13 cores cores-3.13: export PATH := $(SIPBRIDGE_LAB)/bin:$(PATH)
# Where it is set, every program that a test starts compiles all it imports anew: half of the time that they take.
test test-all pbx phones real-time-1 real-time-2 quick quick-3.13 cores cores-3.13: export PYTHONDONTWRITEBYTECODE :=
PARALLEL = $(MAKE) --no-print-directory --output-sync=target

help: ## these lines
	@sed -n 's/^\([a-z0-9.-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

run: setup ## start the gateway, place a call to it, stay up (needs no key, no network, no peer)
	@$(PYTHON_BIN)/sipbridge demo

test: ## what CI runs: lint, types, all quick tests, each real peer's main cases
	@$(PARALLEL) --jobs 2 setup-test lab
	@$(PARALLEL) --jobs 3 lint types phones cores-3.13 cores
	@$(PARALLEL) --jobs 3 pbx real-time-1 real-time-2

# They wait most of the time, so two halves of them can do it together; a file belongs to one by its first letter.
real-time-1: setup-test
	$(REAL_TIME) $(wildcard tests/loopback/test_[a-f]*.py tests/loopback/test_[t-z]*.py)

real-time-2: setup-test
	$(REAL_TIME) $(wildcard tests/loopback/test_[g-s]*.py) tests/simulator

# Telephones talk in real time and keep no processor busy: the cores can be tried beside them, and Asterisk's beside others
# of that kind.
peers: pbx phones

pbx: setup-test lab
	$(PYTHON_BIN)/pytest -q -p no:cacheprovider -m "not slow and interop" tests/interop/pbx

phones: setup-test lab
	$(PYTHON_BIN)/pytest -q -p no:cacheprovider -m "not slow and interop" tests/interop --ignore tests/interop/pbx

test-all: setup-test lab lint types quick-3.13 test-native ## test, and what takes longer
	$(PYTHON_BIN)/pytest -q

quick: setup-test ## the tests that need no real peer
	$(PYTHON_BIN)/pytest -q -m "not slow and not interop"

quick-3.13: setup-test
	@TEST_EXTRAS=$(TEST_EXTRAS) scripts/quick-3.13.sh $(SECOND)

cores: setup-test
	$(PYTHON_BIN)/pytest -q -m "not slow and not interop" $(addprefix --ignore ,$(IN_REAL_TIME))

# What a second Python may judge differently is in the cores; the tests in real time take as long again.
cores-3.13: setup-test
	@TEST_EXTRAS=$(TEST_EXTRAS) scripts/quick-3.13.sh $(SECOND) $(addprefix --ignore ,$(IN_REAL_TIME) tests/fuzz)

native: setup-test ## the package with its media plane compiled, in build/native/
	@scripts/native.sh

test-native: native ## the tests of the compiled modules
	@scripts/test-native.sh

lint: setup-test ## ruff, both linter and formatter
	$(PYTHON_BIN)/ruff check .
	$(PYTHON_BIN)/ruff format --check .

types: setup-test ## mypy --strict
	$(PYTHON_BIN)/mypy

format: setup-test ## let ruff rewrite what it can
	$(PYTHON_BIN)/ruff check --fix .
	$(PYTHON_BIN)/ruff format .

bench: native ## the figures of docs/performance.md
	$(PYTHON_BIN)/python -m bench --write

setup:
	@scripts/setup.sh .venv fast

setup-test:
	@scripts/setup.sh .venv fast,$(TEST_EXTRAS)

# A machine without apt can still run the tests: those with real peers are skipped, with the reason. Not in CI.
lab: ## install the real peers (SIPp, baresip, Kamailio, Asterisk, PostgreSQL), espeak-ng and tshark into .lab/
	@scripts/lab.sh || { test "$$CI" != true && echo "lab: going on without; tests that need these peers are skipped"; }

clean: ## delete what the set-up made
	scripts/lab.sh --remove
	rm -rf .venv $(SECOND) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# Each target does its own set-up in .venv. A fresh machine needs x86-64 Linux, Python 3.11 to 3.14, git and make; no ROS.
#
#   make demo      camera, robot, edge and planner on this machine, with a live table
#   make test      lint and all tests
#   make lint      ruff: rules and formatting
#   make format    let ruff rewrite what it can
#   make params    write config/coinference.yaml and the README's tables again from laim_ros/parameters.py
#   make setup     only the set-up of `make demo`; make setup-dev: that of `make test`
#   make setup-bench   .venv-bench with the runtimes that bench/head.py measures against
#   make fuzz      fuzz what decodes bytes from other machines, in .venv-bench; SECONDS_FUZZED=60
#   make clean     remove .venv, .venv-bench and what builds leave behind
#
# Variables:
#
#   PYTHON=python3.12    the Python that makes .venv
#   TORCH_INDEX=URL      package index for torch alone. Without a GPU, the CPU index that PyTorch's "Get started" page
#                        names saves gigabytes
#   SECONDS_SHOWN=30     how long the demo runs
#   DEMO_ARGS=...        more arguments for `laim demo`
#   PYTEST_ARGS=...      more arguments for pytest, such as a folder

PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
TORCH_INDEX ?=
SECONDS_SHOWN ?= 30
DEMO_ARGS ?=
SECONDS_FUZZED ?= 60
PYTEST_ARGS ?=
# Limits on one test and on all of them, so that a hung process cannot hold a machine.
TEST_TIMEOUT_S ?= 300
SUITE_TIMEOUT ?= 45m

# Folders of tests that need not have the machine for themselves.
SHARING := codec coinference evaluation models package planning power quantization scenes

BIN := $(VENV)/bin
PYTEST = timeout --kill-after=30s $(SUITE_TIMEOUT) $(BIN)/python -m pytest --timeout=$(TEST_TIMEOUT_S)
PIP := $(BIN)/python -m pip
TORCH := $(shell sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements-robot.txt)

# The wheels bring their own ROS: one that this shell has sourced must not mix in.
unexport PYTHONPATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
ifdef AMENT_PREFIX_PATH
unexport AMENT_PREFIX_PATH COLCON_PREFIX_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH RMW_IMPLEMENTATION ROS_DISTRO
endif

.DEFAULT_GOAL := help
.PHONY: help demo test lint format params fuzz setup setup-dev setup-bench clean

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

demo: setup
	$(BIN)/laim demo --seconds $(SECONDS_SHOWN) $(DEMO_ARGS)

# Most tests run two at a time, each with one thread; those that start nodes have the machine for themselves.
test: lint
ifeq ($(strip $(PYTEST_ARGS)),)
	OMP_NUM_THREADS=1 $(PYTEST) --numprocesses 2 --dist loadfile $(addprefix test/,$(SHARING))
	$(PYTEST) $(addprefix --ignore=test/,$(SHARING))
else
	$(PYTEST) $(PYTEST_ARGS)
endif

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

params: setup-dev
	$(BIN)/python -m laim_ros.parameter_docs

fuzz: setup-bench
	$(BENCH_VENV)/bin/python -m bench.fuzz_codec --seconds $(SECONDS_FUZZED)

setup: $(VENV)/.setup
setup-dev: $(VENV)/.setup-dev
setup-bench: $(BENCH_VENV)/.setup-bench

# torch first, by itself: its index may be another one than that of the rest.
$(VENV)/.setup: requirements.txt requirements-robot.txt setup.py | $(BIN)/python
	$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.setup-dev: requirements-dev.txt $(VENV)/.setup
	$(PIP) install -r requirements-dev.txt
	@touch $@

# Apart from the others: the peers bring packages that must not be there by chance when we say what laim_ros needs.
$(BENCH_VENV)/.setup-bench: requirements-bench.txt requirements-robot.txt setup.py
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: install Python 3.11 to 3.14, or name it with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK_PYTHON"
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV) || { rm -rf $(BENCH_VENV); exit 1; }
	$(BENCH_VENV)/bin/python -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BENCH_VENV)/bin/python -m pip install -r requirements-bench.txt
	$(BENCH_VENV)/bin/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

define CHECK_PYTHON
import platform, sys
version = "%d.%d" % sys.version_info[:2]
again = "name one that fits, such as: make demo PYTHON=python3.12"
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.exit("laim_ros needs Python 3.11 to 3.14, but $(PYTHON) is %s; %s" % (version, again))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: sudo apt install python%s-venv" % version)
if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    sys.exit("ROS 2 comes as wheels for x86-64 Linux only; see 'On a robot' in README.md for this machine")
endef
export CHECK_PYTHON

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) here: install Python 3.11 to 3.14, or name it with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK_PYTHON"
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

clean:
	rm -rf $(VENV) $(BENCH_VENV) build install log out *.egg-info .pytest_cache .ruff_cache .hypothesis

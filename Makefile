# Each target makes its own virtual environment on first use; it needs Python >= 3.11 with pip, and make.
#   make demo     annotate a short real video and look at the result
#   make test     the whole test suite
#   make lint     style and format check        make format   apply them
#   make clean    remove the environment, the demo's data and its outputs
# A plain "torch" from the public index brings gigabytes of CUDA libraries on Linux. The demo and the tests need none of them:
# see "Installation" in README.md for how TORCH chooses the CPU or a CUDA build.
TORCH ?= torch==2.13.0
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test lint format clean

demo: .venv/installed
	$(BIN)/python -m jobs.demo

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: .venv/installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf .venv data/demo outputs/demo build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

# Each target makes its own virtual environment on first use; it needs Python >= 3.11 with pip, and make.
#   make demo     annotate a short real video and look at the result
#   make test     the whole test suite
#   make test-all the same, what takes minutes, the oldest Ray that is allowed, and the wheel in a new environment
#   make lint     style and format check        make format   apply them
#   make clean    remove the environments, the demo's data and its outputs
#   make constraints   choose the newest versions that pyproject.toml allows and write them to constraints.txt
# A plain "torch" from the public index brings gigabytes of CUDA libraries on Linux. The demo and the tests need none of them:
# see "Installation" in README.md for how TORCH chooses the CPU or a CUDA build.
TORCH ?= torch==2.13.0
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
OLD := .venv-lowest-ray
LOWEST_RAY := $(shell sed -n 's/.*"ray\[.*\]>=\([0-9.]*\),.*/\1/p' pyproject.toml)

.PHONY: demo test test-all test-long test-lowest-ray test-wheel lint format clean constraints

demo: .venv/installed
	$(BIN)/python -m jobs.demo

test: .venv/installed
	$(BIN)/python -m pytest

# What is too slow for every change; a further slow check is a target of its own, added here.
test-all: test test-long test-lowest-ray test-wheel

test-long: .venv/installed
	$(BIN)/python -m pytest -m long

test-lowest-ray: $(OLD)/installed
	$(OLD)/bin/python -m pytest tests/end_to_end/test_annotate_command.py tests/training/test_run.py tests/pipeline

test-wheel: .venv/installed
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" scripts/test_wheel.sh

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: .venv/installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf .venv $(OLD) data/demo outputs/demo build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

constraints:
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" scripts/write_constraints.sh > constraints.new && mv constraints.new constraints.txt

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

$(OLD)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OLD)
	$(OLD)/bin/python -m pip install --quiet "$(TORCH)"
	grep -v '^ray==' constraints.txt > $(OLD)/constraints.txt
	$(OLD)/bin/python -m pip install --quiet --constraint $(OLD)/constraints.txt "ray==$(LOWEST_RAY)" --editable ".[test]"
	touch $@

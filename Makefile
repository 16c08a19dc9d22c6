# Everything a newcomer types. Needs only make and Python >= 3.11; the rest is installed into .venv.
#   make demo      reads a real page of text with real networks     make lint   ruff and mypy
#   make test      pure + host + the quick part of extra            make bench  speed ratios to peers
#   make test-all  all tests, the slow ones too                     make docs   writes docs/ops.md and onnx.md, runs all examples
#   make web       bundles the page of `brim view`, which is committed (needs node)
#   make fuzz      20,000 random models against other engines       make site   the documentation as HTML, in build/site
#   make clean     removes .venv and build output                   make man    man pages of all commands, in build/man

VENV   := .venv
BIN    := $(VENV)/bin
# The first Python on the path that is new enough and able to make an environment.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
            $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
            && { echo $$p; break; }; done)
WORKERS ?= 2
COUNT   ?= 20000
SEED    ?= 0
PYTEST  = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo test test-all fuzz lint bench docs site man web clean
.DELETE_ON_ERROR:

demo: $(VENV)/all.stamp
	$(BIN)/brim demo

test: $(VENV)/test.stamp
	$(PYTEST) -m "not slow"

test-all: $(VENV)/test.stamp
	$(PYTEST)

# What fails is written to fuzz-failures/, made small, with what each engine said.
fuzz: $(VENV)/test.stamp
	$(BIN)/python -m tests.extra.fuzz_models --count $(COUNT) --seed $(SEED) --jobs $(WORKERS) --folder fuzz-failures

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/bench.stamp
	$(BIN)/python -m bench

docs: $(VENV)/test.stamp
	$(BIN)/python docs/build.py
	$(BIN)/python docs/tour.py
	$(BIN)/python -m pytest tests/pure/test_docs.py tests/host/test_docs.py tests/pure/test_readme.py tests/pure/test_site.py

site: $(VENV)/docs.stamp
	$(BIN)/python docs/site/build.py build/site

man: $(VENV)/docs.stamp
	$(BIN)/python docs/site/commands.py build/man

web:
	cd src/brim/view/web && npm ci --no-audit --no-fund && npm run build

clean:
	rm -rf $(VENV) src/brim/view/web/node_modules build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis

# all.stamp, test.stamp, ...: this checkout, editable, with that extra of pyproject.toml.
$(VENV)/%.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "brim needs Python >= 3.11 with venv; make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Two commands do everything on a fresh machine: `make demo` and `make test`. Each sets up what it needs.
# `make check` is for between changes: lint, types and the quick tests.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# Compiled XLA programs are kept, so that a second run starts at once.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache

.PHONY: demo test check lint types clean

demo: $(VENV)/.installed
	$(RUN) -m fcam_jax.main --config=configs/synthetic.py --workdir=runs/demo

test: $(VENV)/.installed-dev
	$(RUN) -m pytest -n 2 -q

check: lint types
	$(RUN) -m pytest -n 2 -q -m "not slow"

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.installed-dev
	$(RUN) -m mypy

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: fcam_jax needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python requirements.txt constraints.txt pyproject.toml setup.py
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	touch $@

clean:
	rm -rf $(VENV) .jax_cache .mypy_cache .pytest_cache .ruff_cache *.egg-info

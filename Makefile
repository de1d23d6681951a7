# Two commands do everything on a fresh machine: `make demo` and `make test`. Each sets up what it needs.
# `make check` is for between changes: lint, types and the quick tests.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# Compiled XLA programs are kept, so that a second run starts at once.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache

.PHONY: demo test test-all check lint types lock clean

demo: $(VENV)/.installed
	$(RUN) -m fcam_jax.main --config=configs/synthetic.py --workdir=runs/demo

test: $(VENV)/.installed-dev
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q

# `test` leaves out tests marked `long`, and three of four cases of those that say the same of every network or method.
test-all: $(VENV)/.installed-dev
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q --every-case

# Types with shapes are checked here while tests run; `test`, which has all tests, would take a third longer by them.
check: lint types
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q -m "not slow" \
	    --jaxtyping-packages=fcam_jax,beartype.beartype

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.installed-dev
	$(RUN) -m mypy

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: fcam_jax needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Every file that is downloaded is compared with its hash in locked/. pip compiles the modules: with
# PYTHONDONTWRITEBYTECODE, as in many containers, Python would compile them at each start.
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --no-build-isolation
VERIFIED := $(PIP) --require-hashes --requirement

$(VENV)/.installed: $(VENV)/bin/python locked/build.txt locked/all.txt pyproject.toml setup.py requirements.txt
	$(VERIFIED) locked/build.txt
	$(VERIFIED) locked/all.txt
	$(PIP) --no-deps --editable .
	touch $@

# Beside it: dev, for tests, lint and types; cuda12, cuda13 or tpu, for an accelerator.
$(VENV)/.installed-%: $(VENV)/.installed locked/%.txt
	$(VERIFIED) locked/$*.txt
	touch $@

# Versions stay where they can; `make lock UPGRADE=--upgrade` takes the newest.
LOCK := uv pip compile --quiet --universal --generate-hashes --python-version=3.11 --no-annotate \
    --custom-compile-command='make lock' $(UPGRADE)

lock:
	echo 'setuptools>=70.1' | $(LOCK) --output-file=locked/build.txt -
	$(LOCK) --output-file=locked/all.txt requirements.txt
	$(LOCK) --output-file=locked/dev.txt --constraints=locked/all.txt --group=dev
	for extra in cuda12 cuda13 tpu; do \
	    echo "jax[$$extra]" | $(LOCK) --output-file=locked/$$extra.txt --constraints=locked/all.txt - || exit; done

clean:
	rm -rf $(VENV) .jax_cache .mypy_cache .pytest_cache .ruff_cache *.egg-info

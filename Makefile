# make setup, demo, demo-family, test, lint, bench; make clean removes .venv. Needs Python 3.11 or newer, git and make; all else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo demo-family test lint bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11; run make PYTHON=python3.12, say" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/python -m aia_jax.demo

demo-family: $(READY)
	$(BIN)/python -m aia_jax.demo.family

# Two processes, a file at a time, take two thirds of what one takes on two cores. The order of files
# is that of tests/conftest.py.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .

bench: $(READY)
	$(BIN)/python -m benchmarks.all

clean:
	rm -rf $(VENV)

# The two commands of the README: `make demo` and `make test`. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

# Python keeps what it has compiled: otherwise each process of the tests compiles torch and transformers anew (9 s).
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test quick oldest docs dist check clean

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

# A file's tests stay together, for they share what is slow to make; in order, integration (the slow ones) comes early.
test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses logical --dist loadfile --no-loadscope-reorder

# What says in a minute and a half whether a change is right: laws, parity, golden values, but for the slow ones.
quick: $(VENV)/.dev
	$(BIN)/python -m pytest tests/laws tests/parity tests/golden -m "not slow" --numprocesses logical --dist worksteal

# Laws, parity and golden values with the oldest versions of what quorem needs, in an environment of their own.
oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/pip install --quiet --constraint constraints-oldest.txt --editable '.[parquet,zstd]' hypothesis pytest pytest-xdist
	$(VENV)-oldest/bin/python -m pytest tests/laws tests/parity tests/golden -m "not slow" --numprocesses logical --dist worksteal

# The documentation as a site, in docs/_build/html; a warning is an error. Notebooks are run, those that changed since the last
# time; NOTEBOOKS=off shows them without outputs.
NOTEBOOKS ?= cache
docs: $(VENV)/.dev
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/sphinx-build -q -W --keep-going -D nb_execution_mode=$(NOTEBOOKS) -b html docs docs/_build/html

# Wheel and sdist, in dist/.
dist:
	$(PYTHON) -m venv $(VENV)-dist
	$(VENV)-dist/bin/pip install --quiet build
	$(VENV)-dist/bin/python -m build

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Python compiles a module when it is first imported; --no-compile does not compile those that never are.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --no-compile --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-dist dist docs/_build runs/demo

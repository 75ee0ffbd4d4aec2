# Two commands to know: `make search` and `make test`. Both make .venv first if there is none.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Files stand in the order of tests/conftest.py.
PYTEST = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --durations 25

.PHONY: search test quick collected lint clean

search: $(VENV)/installed
	$(BIN)/effnas search --space tiny --data digits --budget 12 --out runs/tiny-digits

# Three at a time on two cores: tests that start Ray wait for it more than they compute.
test:
	$(MAKE) --jobs 2 lint collected
	$(PYTEST) -n 3

quick: $(VENV)/installed
	$(PYTEST) -n 2 -m "not slow"

# Beside lint, which uses one core: compiles once what every process of the tests will import.
collected: $(VENV)/installed
	-$(BIN)/python -m pytest --collect-only > /dev/null

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What is never imported need not be compiled: installing is quicker without.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist

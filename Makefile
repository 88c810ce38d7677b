# make demo    the whole method on this machine, in about nine minutes
# make tables  the long form: ratios 2 and 4, and the control
# make test    all fast tests
# make lint    style and types
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo tables test lint clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/installed
	$(RUN) -m fcot demo

tables: $(VENV)/installed
	$(RUN) -m fcot demo --preset tables --output runs/tables

test: $(VENV)/installed
	$(RUN) -m pytest -q -n 2 --dist worksteal

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) runs data

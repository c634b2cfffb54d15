# make demo, make test, make pictures: each makes .venv first and installs what it needs there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.PHONY: demo test pictures clean

demo: $(VENV)/.installed
	$(BIN)/python finetune.py --preset tiny
	$(BIN)/python generate.py --preset tiny

test: $(VENV)/.tested
	$(BIN)/python -m ruff check --quiet .
	$(BIN)/python -m pytest -q

pictures: $(VENV)/.installed
	$(BIN)/python docs/pictures.py

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'SQLoRA needs Python 3.11 or newer: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.tested: $(VENV)/.installed requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

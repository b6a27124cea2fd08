# `make` shows what there is. `make run` and `make test` each make the environment first where it is missing.
.DEFAULT_GOAL := help
SHELL := /bin/sh
export PATH := $(CURDIR)/.venv/bin:$(PATH)

N ?= 10000
SEED ?= 0

.PHONY: help setup run test check bench fuzz ui clean-cache

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/ready  ## Make the environment in .venv (PYTHON=python3.12 to choose one)

.venv/ready: pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh

run: setup  ## The whole pipeline on the data and the model of params.yaml; only what changed runs
	@scripts/repository.sh
	@mkdir -p build && touch build/.began && dvc repro
	@[ build/report/summary.txt -nt build/.began ] || cat build/report/summary.txt

test: setup  ## The tests (some minutes); `make test ARGS="-m long"` and `-m slow` for the longer ones
	@python -m pytest $(ARGS)

check: setup  ## Lint, format, types, and which room may import which
	@ruff check . && ruff format --check . && mypy && lint-imports --no-logo

bench: setup  ## Speed of a training epoch against a bare PyTorch loop, and what dvc repro spends outside of it
	@python benchmarks/throughput.py

fuzz: setup  ## Decode damaged, false and huge image files (N=10000 SEED=0) and tell what went wrong
	@python -m tests.fuzz $(N) --seed $(SEED)

ui: setup  ## Look at all runs in a browser
	@mlflow ui

clean-cache:  ## Remove cached data of other configurations and checkpoints of interrupted trainings
	@rm -rf build/cache

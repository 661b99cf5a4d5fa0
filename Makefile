# Everything a person or CI runs. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STUDY ?=
ONCE ?=

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml scripts/environment.sh
	@bash scripts/environment.sh $(PYTHON) $(VENV)
	@touch $@

.PHONY: setup
setup: $(STAMP)  ## build .venv with the locked versions; .venv/bin/clinfer is the command

.PHONY: test-packages
test-packages:
	@bash scripts/debian_packages.sh orthanc orthanc-dicomweb dcmtk dicom3tools chromium \
	    libpixelmed-java default-jre-headless postgresql

.PHONY: demo
demo: setup  ## Triton, receiver, API and page up; a study in; table and page out (STUDY=folder, ONCE=1)
	@$(BIN)/clinfer demo $(if $(STUDY),--study "$(STUDY)") $(if $(ONCE),--once)

.PHONY: test
test: setup test-packages  ## every test that needs no GPU: real Triton, Orthanc and Chromium
	@$(BIN)/python -m pytest

.PHONY: test-gpu
test-gpu: setup  ## the tests that need a CUDA device
	@$(BIN)/python -m pytest -m gpu

.PHONY: check
check: setup  ## format, lint, types, direction of imports
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: chaos
chaos: setup  ## kill -9 at 50 random points while 20 studies are sent
	@$(BIN)/python -m tests.chaos.run --kills 50 --studies 20

.PHONY: bench
bench: setup  ## measure against the plain MONAI way; results under benchmarks/results/
	@$(BIN)/python -m benchmarks.end_to_end

RECORDS ?= ../shared/data/signals/mitdb
.PHONY: bench-beats
bench-beats: setup  ## beats beside XQRS and neurokit2 (RECORDS=folder of WFDB records with .atr)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock neurokit2
	@$(BIN)/python -m benchmarks.beats "$(RECORDS)"

.PHONY: serve
serve: setup  ## the whole service on loopback
	@$(BIN)/clinfer serve

.PHONY: lock
lock: setup  ## write the installed versions to requirements.lock
	@$(BIN)/pip freeze --exclude clinfer --exclude-editable | sed -E 's/\+cpu$$//' > requirements.lock

.PHONY: clean
clean:  ## remove what the targets above made here
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

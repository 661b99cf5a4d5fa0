# Everything a person or CI runs. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STUDY ?=
ONCE ?=
TEST_PROCESSES ?= 2
RECORDS ?= ../shared/data/signals/mitdb

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
	    libpixelmed-java default-jre-headless postgresql fonts-wqy-microhei poppler-utils

.PHONY: demo
demo: setup  ## Triton, receiver, API and page up; a study in; table and page out (STUDY=folder, ONCE=1)
	@$(BIN)/clinfer demo $(if $(STUDY),--study "$(STUDY)") $(if $(ONCE),--once)

.PHONY: test
test: setup test-packages  ## every test that needs no GPU: real Triton, Orthanc and Chromium
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup

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

.PHONY: fuzz
fuzz: setup  ## 100,000 random model outputs against the limits, 10,000 races for one decision
	@$(BIN)/python -m tests.care.fuzz --outputs 100000 --races 10000

.PHONY: races
races: setup  ## 10,000 races for one workitem or reading, on SQLite and on PostgreSQL
	@$(BIN)/python -m tests.worklist.races --races 10000

.PHONY: bench
bench: setup  ## every benchmark, about two hours; benchmarks/results/<machine>.json, docs/benchmarks.md
	@$(BIN)/python -m benchmarks.run_all

.PHONY: bench-end-to-end
bench-end-to-end: setup  ## DICOM folder to SEG, against the plain MONAI way
	@$(BIN)/python -m benchmarks.run_all --only end_to_end

.PHONY: bench-kernels
bench-kernels: setup  ## the kernels against MONAI, SimpleITK, SciPy, torch and edt
	@$(BIN)/python -m benchmarks.run_all --only kernels

.PHONY: bench-gpu
bench-gpu: setup  ## the CUDA kernels on a GPU: share of its memory bandwidth
	@$(BIN)/python -m benchmarks.kernels_gpu

.PHONY: bench-serving
bench-serving: setup  ## Triton's share, two studies against one, STAT under load, studies in an hour
	@$(BIN)/python -m benchmarks.run_all --only triton_share urgency

.PHONY: bench-study-page
bench-study-page: setup  ## the study page in Chromium: 104 segments on 300 slices, opened and scrolled
	@$(BIN)/python -m benchmarks.study_page

.PHONY: soak
soak: setup  ## 1000 cycles of load, infer and unload against the real server; memory must not grow
	@$(BIN)/python -m tests.soak.run --cycles 1000

.PHONY: bench-batch
bench-batch: setup  ## `clinfer batch` on one and two workers; results under benchmarks/results/
	@$(BIN)/python -m benchmarks.run_all --only batch

.PHONY: bench-engines
bench-engines: setup  ## time each engine on one window of two networks; their answers checked first
	@$(BIN)/python -m benchmarks.run_all --only engines

.PHONY: bench-memory
bench-memory: setup  ## peak memory at 104 classes, and with twice the slices
	@$(BIN)/python -m benchmarks.run_all --only memory

.PHONY: bench-qido
bench-qido: setup  ## searches over 100,000 indexed instances; fails where p95 of a kind is over 200 ms
	@$(BIN)/python -m benchmarks.run_all --only qido

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

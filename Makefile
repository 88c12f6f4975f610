# The workbook's commands. `make` alone lists them.
# Only make, git and Python 3.11 to 3.13 are assumed; uv is used where there is one.

# A plain `mlflow ui` at the root, a notebook, a runner and a test of the user's own all see this store.
ifeq ($(strip $(MLFLOW_TRACKING_URI)),)
ifneq ($(findstring %,$(CURDIR))$(findstring ?,$(CURDIR)),)
$(error MLflow takes a % or ? in a folder's name for a part of an address: rename $(CURDIR), or set MLFLOW_TRACKING_URI to a store elsewhere)
endif
MLFLOW_TRACKING_URI := sqlite:///$(CURDIR)/mlflow.db
endif
export MLFLOW_TRACKING_URI
export MLFLOW_DISABLE_TELEMETRY := true
export JUPYTER_PREFER_ENV_PATH := 1

BIN := .venv/bin
PORT ?= 5000
PYTHON ?=

# Values typed by people reach the recipes through the environment, never as text of a shell line.
# `value` keeps their `$` signs from being read by make.
override P := $(value P)
override NB := $(value NB)
override ROUNDS := $(value ROUNDS)
override WAYS := $(value WAYS)
override SECTIONS := $(value SECTIONS)
override TRIALS := $(value TRIALS)
override GROWTH := $(value GROWTH)
override SPACE := $(value SPACE)
override WORKERS := $(value WORKERS)
override ARGS := $(value ARGS)
override MODEL := $(value MODEL)
override EXTRAS := $(value EXTRAS)
export EXTRAS MODEL P NB ROUNDS WAYS SECTIONS TRIALS GROWTH SPACE WORKERS ARGS

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help
help: ## list the commands
	@awk 'BEGIN {FS = ":[^#]*## "} /^[a-z-]+:[^#]*## / {gsub(/ \| /, "\n                     ", $$2); \
	    printf "  make %-13s %s\n", $$1, $$2}' Makefile

.PHONY: install
install: ## make .venv with everything in it | PYTHON=python3.12 chooses the Python, EXTRAS="torch" adds | a framework
	@sh .ci/install "$(PYTHON)"

.PHONY: run
run: install ## run all notebooks in order, or one | NB=02_train P="model=forest seed=3"
	@exec $(BIN)/workbook run $${NB:+"$$NB"} --params "$$P"

.PHONY: sweep
sweep: install ## try a notebook over many values | NB=02_train SPACE=file.yaml TRIALS=20 WORKERS=2 | P="rows=2000" ARGS="--seeds 3"
	@exec $(BIN)/workbook sweep "$${NB:-02_train}" --space "$${SPACE:-Resources/sweeps/flights_hgb.yaml}" \
	    --params "$$P" $${TRIALS:+--trials "$$TRIALS"} $${WORKERS:+--workers "$$WORKERS"} $$ARGS

.PHONY: lab
lab: install ## open JupyterLab on 127.0.0.1 | LAB="--no-browser" adds options of its own
	@$(BIN)/workbook warm --start >/dev/null 2>&1 & exec $(BIN)/jupyter lab --ip=127.0.0.1 --ServerApp.root_dir=. \
	    --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB)

.PHONY: ui
ui: install ## show the runs in the MLflow UI on 127.0.0.1 | PORT=5001 chooses the port
	@exec $(BIN)/workbook ui --port $(PORT)

.PHONY: serve
serve: install ## serve the model in production on 127.0.0.1 | MODEL=flights@staging PORT=5001 ARGS="--capture 0"
	@exec $(BIN)/workbook serve "$${MODEL:-flights@production}" --port $(if $(filter file,$(origin PORT)),5001,$(PORT)) $$ARGS

.PHONY: monitor
monitor: install ## watch the model in production, window by window | MODEL=flights ARGS="--window 2013-12"
	@exec $(BIN)/workbook monitor "$${MODEL:-flights}" $$ARGS

.PHONY: format
format: install ## format code and notebooks, strip outputs | CHECK=1 only checks
	@exec $(BIN)/python -m Codes.tools.stages $(if $(filter-out 0,$(CHECK)),format-check,format)

.PHONY: lint
lint: install ## check code, notebooks, pages, workflows, the Dockerfile
	@exec $(BIN)/python -m Codes.tools.stages lint

.PHONY: test
test: install ## run what proves the workbook, one case of each kind | ONLY="unit" or ONLY="lifecycle notebooks" chooses stages
	@exec $(BIN)/python -m Codes.tools.stages test

.PHONY: browser
browser: ## install Chromium for the browser stage of make test
	@sh .ci/browser

.PHONY: soak
soak: install ## the same with every case, as each night | ONLY="unit" chooses stages
	@exec $(BIN)/python -m Codes.tools.stages soak

.PHONY: proof
proof: install ## run papermill's own test suite under our engine
	@exec $(BIN)/python -m Codes.tools.proof

.PHONY: docs
docs: install ## build the pages into a site, build/site/index.html
	@EXTRAS=docs sh .ci/install "$(PYTHON)" && exec $(BIN)/python -m Codes.tools.stages docs

.PHONY: pictures
pictures: install ## make the pictures of the pages from runs in the store
	@exec $(BIN)/python -m Codes.tools.pictures

.PHONY: bench
bench: install ## measure what runs, sweeps, answers and the gate cost | SECTIONS=serve chooses sections, ROUNDS=3 how often
	@exec $(BIN)/python -m Codes.bench.bench

.PHONY: summary
summary: ## print the last test's table as Markdown
	@cat test-report/summary.md 2>/dev/null || echo "no test report: make test writes one"

.PHONY: requirements
requirements: ## compile requirements*.txt from pyproject.toml | UPGRADE=1 takes newer versions
	@sh .ci/requirements "$(UPGRADE)"

.PHONY: clean
clean: ## remove runs, executed notebooks and caches, after asking | ALL=1 takes .venv too, YES=1 does not ask
	@sh .ci/clean "$(YES)" "$(ALL)"

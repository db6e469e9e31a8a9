# Everything a person, pre-commit or CI runs has its one name here; `make` alone lists them.

PYTHON ?= python3
PORT ?= 5000
ARGS ?=

BIN := .venv/bin
# Touched when .venv holds what the lock says, so that a second `make env` has nothing to do.
STAMP := .venv/.installed

# The commands of DVC stages name plain `python`.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help env repro test check smoke ui lock baselines

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

env: $(STAMP) ## make .venv as requirements.lock says (PYTHON=python3.13 chooses the interpreter)

repro: env ## run the whole pipeline, or what changed of it (ARGS="--force decode" reaches dvc)
	@$(BIN)/python -m pipelines.preflight
	@$(BIN)/dvc repro $(ARGS)

test: env ## run the tests (ARGS="-k sampling" reaches pytest)
	@$(BIN)/python -m pytest $(ARGS)

check: env ## lint, format, types, import directions, stage dependencies, CI workflow
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_structure.py
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

smoke: env ## run the whole pipeline and a two-trial sweep on tiny clips
	@$(BIN)/python -m tests.smoke $(ARGS)

ui: env ## compare runs in the browser, on this machine only (PORT=5001 for another port)
	@test -f mlruns/mlflow.db || { echo "mlruns/mlflow.db not found: run \`make repro\` first" >&2; exit 1; }
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui \
		--host 127.0.0.1 --port $(PORT) --backend-store-uri sqlite:///mlruns/mlflow.db

lock: $(BIN)/uv ## write requirements.lock from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock $(ARGS)

baselines: env ## add the models of others that `python -m pipelines.runtime` compares with (not in the lock)
	@$(BIN)/uv pip install --python $(BIN)/python --no-build-isolation --constraint requirements.lock \
		--editable ".[baselines]"

# `--python`: another activated environment must not be the one that is changed.
$(STAMP): requirements.lock pyproject.toml | $(BIN)/uv
	@$(BIN)/uv pip sync --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# uv itself comes from the lock too, with its hashes.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
		echo "Python 3.11 to 3.13 is needed, but $(PYTHON) is `$(PYTHON) --version 2>/dev/null || echo missing`:" \
			"name another one, for example \`make env PYTHON=python3.13\`" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "$(PYTHON) cannot create environments: install its venv module" \
			"(Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt

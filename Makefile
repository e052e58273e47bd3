# vkcri's verbs. `make run` and `make test` do all the set-up; `check` never writes, `fix` never judges.
# Only git and make are assumed. VKCRI_INSTANCE=NAME-N addresses another node on the same guest.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(shell find protos -name '*.proto') protos/generate.py
# pytest's workers: containers are started by containerd, so more workers than cores only queue up there
WORKERS ?= 2
TESTS ?= tests
RUNTIMES := 1.6 1.7 2
CONTROL_PLANE := kube-apiserver kube-controller-manager kube-scheduler
CLIENT := kubectl
OLD_CLIENTS := kubectl-1.20 kubectl-1.32
END_TO_END := ginkgo agnhost nonewprivs e2e.test
ON_RUNTIME = first=$$($(BIN)/python -m tests.runtimes $(RUNTIME)) && PATH="$${first:+$$first:}$$PATH" VKCRI_TEST_RUNTIME=$(RUNTIME)
.DEFAULT_GOAL := help
.PHONY: help install run stop reset test test-guest test-cluster test-rival cluster cluster-stop rival rival-stop check fix protos bench clean conformance test-conformance

help: ## what each verb does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(BIN)/pip: # the last that venv makes
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.installed: pyproject.toml setup.py $(PROTOS) | $(BIN)/pip
	@echo "install: Python packages into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml setup.py $(PROTOS) | $(BIN)/pip
	@echo "install: Python packages for tests into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.installed $@

install: ## install what is missing and nothing else (apt, a virtual environment)
	@sh install/packages.sh run
	@mkdir -p /var/log/vk-cri # supervisord makes no folders, and its log lies there
	@$(MAKE) --no-print-directory $(VENV)/.installed

run: ## make this guest a node, wait until it is Ready, say what to type next
	@sh install/joining.sh
	@$(MAKE) --no-print-directory install
	@$(BIN)/vkcri up

stop: ## end everything that vkcri started; store, certificates and images stay
	@if [ -x $(BIN)/vkcri ]; then $(BIN)/vkcri down; else echo "not installed: nothing to stop"; fi

reset: stop ## stop, then remove store, certificates, volumes and images too
	@if [ -x $(BIN)/vkcri ]; then $(BIN)/vkcri reset; fi

protos: ## generate the code that is built and not committed
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python protos/generate.py

test: ## all tests that need neither the emulated guest nor a real Kubernetes; RUNTIME=1.6|1.7|2: those that run containers, on that containerd
	@sh install/packages.sh $(if $(RUNTIME),runtimes,test)
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(if $(filter tests tests/flow%,$(TESTS)),$(BIN)/python -m tests.cluster fetch --try $(OLD_CLIENTS))
	@$(if $(RUNTIME),$(ON_RUNTIME)) $(BIN)/pytest -n $(WORKERS) $(if $(RUNTIME),-m container) $(TESTS) --ignore tests/guest --ignore tests/cluster

.PHONY: test-runtimes
test-runtimes: ## what is asked of CRI, on Debian 12's containerd and on the newest of trixie and of sid
	@set -e; for line in $(RUNTIMES); do $(MAKE) --no-print-directory test RUNTIME=$$line TESTS=tests/contract; done

test-guest: ## README's session in a true Debian 12 guest, in emulation (some ten minutes)
	@sh install/packages.sh guest
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/pytest -s tests/guest

test-cluster: ## the flow tests on a real Kubernetes control plane, and its own tests; builds it first (needs go)
	@sh install/packages.sh test
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.cluster build $(CONTROL_PLANE) $(CLIENT)
	@$(BIN)/python -m tests.cluster fetch --try
	@$(BIN)/pytest -n $(WORKERS) --cluster=real -m 'not rival' tests/flow tests/cluster tests/comparison

.PHONY: test-skew
test-skew: ## the flow tests on another version's control plane (KUBERNETES=1.34, if nothing is said); builds it first (needs go)
	@sh install/packages.sh test
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.cluster build --kubernetes '$(or $(KUBERNETES),1.34)' $(CONTROL_PLANE) $(CLIENT)
	@$(BIN)/python -m tests.cluster fetch --try $(OLD_CLIENTS) etcd
	@$(BIN)/pytest -n $(WORKERS) --cluster=real --kubernetes='$(or $(KUBERNETES),1.34)' tests/flow

.PHONY: programs
programs: ## build or fetch what the tests run and the cache lacks (needs go), so that it is there before a timed test
	@sh install/packages.sh runtimes
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.cluster build $(CONTROL_PLANE) $(CLIENT) $(END_TO_END)
	@$(BIN)/python -m tests.cluster fetch
	@set -e; for line in $(RUNTIMES); do $(BIN)/python -m tests.runtimes $$line; done
	@if sh install/packages.sh guest; then $(BIN)/python -m tests.guest.image; else echo "programs: what the emulated guest needs cannot be installed here, so make test-guest cannot run"; fi

test-rival: ## the tests that want its kubelet, kube-proxy and CoreDNS too; builds them first (needs go)
	@sh install/packages.sh test
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.cluster build $(CONTROL_PLANE) kubelet kube-proxy coredns
	@$(BIN)/python -m tests.cluster fetch --try etcd
	@$(BIN)/pytest tests/cluster -m rival

test-conformance: ## the end-to-end tests that must pass (LIST=FILE: others), on a control plane and a node of their own; builds them first (needs go)
	@sh install/packages.sh test
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.cluster build $(CONTROL_PLANE) $(CLIENT) $(END_TO_END)
	@$(BIN)/python -m tests.conformance.own $(if $(findstring command,$(origin LIST)),$(LIST))

cluster: ## a real Kubernetes control plane on this guest, built with go (KUBERNETES=1.34: another version; DNS=no: without CoreDNS)
	@sh install/packages.sh run
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.cluster start --kubernetes '$(KUBERNETES)' $(if $(filter no,$(DNS)),--no-dns)

cluster-stop: ## end that control plane and remove what it kept
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.cluster stop

conformance: ## Kubernetes' end-to-end tests on the cluster and node that run, built with go (LABELS=, FOCUS=, PROCS=4; LIST=FILE: those of a list; CI=1: judge by the kept one)
	@sh install/packages.sh run
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.conformance $(if $(findstring command,$(origin CI)),$(if $(filter 1,$(CI)),--ci)) $(if $(findstring command,$(origin LIST)),--list=$(LIST))

rival: ## the real kubelet and kube-proxy as another node of that cluster, built with go, on a containerd of their own
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.cluster rival

rival-stop: ## end that node and remove what it kept
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m tests.cluster rival-stop

check: ## formatting, lint, types, import contracts; changes nothing
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: ## format, and mend what the linter can mend
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

bench: ## print the figures of docs/figures.md but for the scrapers', measured here (RIVAL=1: against the real kubelet, which needs go)
	@sh install/packages.sh test
	@$(MAKE) --no-print-directory $(VENV)/.installed-dev
	@$(BIN)/python -m benchmarks $(if $(RIVAL),rival)

clean: ## remove what was built in this tree (not the node's state: that is reset)
	@rm -rf $(VENV) build *.egg-info vkcri/pb bridge/pb vkcri/apiserver/schema.json .mypy_cache .ruff_cache .pytest_cache .hypothesis

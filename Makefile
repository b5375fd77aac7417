# The contributor's interface. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
LOCAL := deploy/local
# Run a command with the repository's own Node.js and the built tools on the PATH.
WITH := $(LOCAL)/with.sh
# What asks the local cluster says in a sentence that there is none.
UP := [ -e .crucible/kubeconfig ] || { echo 'crucible: no cluster is up: `make up`' >&2; exit 1; }

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: up down status kubeconfig url token drill
up: ## set up all that is needed, start a cluster, install Crucible and run the sample evaluation
	@$(LOCAL)/up.sh
down: ## stop and remove the cluster; only the build cache stays
	@$(LOCAL)/down.sh
status: ## what runs, and how it is
	@$(LOCAL)/status.sh
kubeconfig: ## print the path of the cluster's kubeconfig
	@$(UP); echo .crucible/kubeconfig

url: ## print where the API is; its certificate authority goes to .crucible/ca.crt
	@$(LOCAL)/url.sh
drill: ## attack sandboxes of every RuntimeClass; fails when a rule of the sandbox contract is broken or cannot be shown
	@$(WITH) node deploy/local/drill.ts

token: ## print a researcher's bearer token for the namespace evals, valid for an hour
	@$(UP); $(WITH) kubectl --kubeconfig .crucible/kubeconfig create token researcher -n evals --duration=1h

.PHONY: cli
cli: ## pack the kubectl plugin: `npm install -g` takes the file that is named
	@mkdir -p .crucible && echo .crucible/$$($(WITH) npm pack --silent -w kubectl-crucible --pack-destination .crucible | tail -1)

.PHONY: public-key verify-bundle
public-key: ## print the public key that evidence bundles are checked with
	@$(UP); $(WITH) kubectl --kubeconfig .crucible/kubeconfig get secret crucible-signing-key -n crucible-system -o jsonpath='{.data.signing-key\.pem}' | base64 -d | openssl pkey -pubout
verify-bundle: ## check an evidence bundle, offline: BUNDLE=run.tar KEY=public.pem
	@[ -n "$(BUNDLE)" ] && [ -n "$(KEY)" ] || { echo 'usage: make verify-bundle BUNDLE=run.tar KEY=public.pem' >&2; exit 2; }
	@$(WITH) node storage/src/bundle/verify-bundle.ts $(abspath $(BUNDLE)) $(abspath $(KEY))

.PHONY: generate verify audit test test-unit test-integration test-e2e soak
generate: ## write the generated files anew (CRDs, the API's contract, its client's types)
	@$(WITH) node crds/src/generate.ts
	@$(WITH) node api/src/generate.ts
	@$(WITH) node api/client/src/generate.ts
verify: ## types, generated files, formatting, chart and scripts are as they should be
	@$(WITH) node test/run.ts verify
audit: ## known vulnerabilities of npm packages and Go modules; says so when a database cannot be reached
	@status=0; for what in npm "go operator/launcher --online" "go deploy/local --online"; do \
	  echo "$$what"; $(WITH) node deploy/audit/audit.ts $$what || { code=$$?; [ $$code = 77 ] || status=$$code; }; done; exit $$status
test: ## everything: verify, unit, integration, e2e; the last line counts them
	@$(WITH) node test/run.ts verify unit integration e2e
test-unit: ## fast tests that need no servers
	@$(WITH) node test/run.ts unit
test-integration: ## tests on a real API server, Postgres and Redis, started for the run
	@$(WITH) node test/run.ts integration
test-e2e: ## tests on the real cluster; one is started, and taken down after, if none runs
	@$(WITH) node test/run.ts e2e

MINUTES ?= 60
soak: ## every crash point and many rounds of every fault, for at most MINUTES (60); then a thousand logs at once, a million runs, 200 pods at once; see docs/faults.md
	@$(LOCAL)/test-tools.sh integration
	@$(WITH) bash -c 'failed=0; for b in "test/faults/soak.ts --minutes=$(MINUTES)" test/bench/recorder-memory.ts storage/bench/queries.ts "test/run.ts many"; do echo "== $$b"; node $$b || failed=1; done; exit $$failed'

.PHONY: bench
bench: ## evaluations beside raw Jobs, the recorder beside kubectl logs, events, reads at 100,000 runs, the API beside bare Fastify; see docs/benchmarks.md
	@$(LOCAL)/test-tools.sh bench
	@$(WITH) bash -c 'failed=0; for b in "test/bench/operator.ts" "test/bench/recorder.ts" "storage/bench/events.ts" "storage/bench/queries.ts 100000" "api/bench/api.ts"; do echo "== $$b"; node $$b || failed=1; done; exit $$failed'

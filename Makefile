# The commands of this repository; the same for people and for CI. `make` alone lists them.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Two that compute, or four that mostly wait.
WORKERS ?= 2
TEST_WORKERS ?= 4
PYTEST_ARGS ?=

.PHONY: help demo demo-down test-fast test-system crash-test crash-slice sessions sessions-full test-slow matrix properties test test-full molecule test-peers lint fmt bench venue-rules bench-venue lock bootstrap hosts vms peers clean

help: ## This list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2 }' Makefile

demo: hosts ## A bot on a host of its own: provisioned, trading, killed, back and protected (3 min)
	@$(VENV)/python tools/demo.py up

demo-down: ## Remove the demo's host, venue and network
	@if [ -x $(VENV)/python ]; then $(VENV)/python tools/demo.py down; else echo "nothing to remove"; fi

test-fast: bootstrap ## Tests without a host (3 min; PYTEST_ARGS='-k name' for some)
	@$(VENV)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m 'not slow and not system' --durations=12 --durations-min=4 $(PYTEST_ARGS)

test-system: bootstrap ## Whole programs killed, frozen, handed over; the kill switch (4 min)
	@$(VENV)/python -m pytest -n $(TEST_WORKERS) --dist worksteal -m 'system and not slow' $(PYTEST_ARGS)

test-slow: bootstrap ## Tests without a host that take minutes
	@$(VENV)/python -m pytest -n $(WORKERS) -m slow $(PYTEST_ARGS)

crash-test: bootstrap ## kill -9 of an executor at every write, sync and boundary of every workflow on both venues (VENUE=krakenfutures, POINT=workflow:point for some; FAULTS=1 with faults of the venue)
	@$(VENV)/python -m bench.crash --workers $(WORKERS) $(if $(JSON),--json) $(VENUE:%=--venue %) $(FAULTS:%=--faults %) $(POINT)

sessions: bootstrap ## Seeded random sessions of faults and kills: COUNT=20 SEED=1 (the first; one replays itself with COUNT=1)
	@$(VENV)/python -m bench.sessions --workers $(WORKERS) --count $(or $(COUNT),20) --seed $(or $(SEED),1) $(if $(JSON),--json)

sessions-full: ## 1,000 of them
	@$(MAKE) sessions COUNT=1000

crash-slice: bootstrap ## As crash-test, at about ten points of each workflow (4 min)
	@$(VENV)/python -m bench.crash --workers $(WORKERS) --slice 10

matrix: bootstrap ## Every row of the reconciliation matrix, each with its tests (MUTATE=1: leave each row out, ROW=P1)
	@$(VENV)/python tools/matrix.py --workers $(WORKERS) $(if $(MUTATE),--mutate) $(if $(ROW),--row $(ROW))

properties: bootstrap ## What holds for every plan, tried on 10,000 generated states each (20 min)
	@HYPOTHESIS_PROFILE=full $(VENV)/python -m pytest -n $(WORKERS) --dist worksteal bot/tests/reconcile/test_convergence.py $(PYTEST_ARGS)

test: hosts lint test-fast test-system matrix crash-slice ## What every change must pass: linters, tests, matrix, crashes, core host scenarios (45 min)
	@$(VENV)/python tools/scenarios.py core

test-full: vms ## All of it, every scenario on every platform, resumable; dated table in docs/test-results/ (CASES='lint reboot' for some)
	@$(VENV)/python tools/scenarios.py full

molecule: $(if $(filter reboot,$(SCENARIO)),vms,hosts) ## One scenario on a fresh host: make molecule SCENARIO=default [PLATFORM=trixie REPEAT=3]
	@$(VENV)/python tools/scenarios.py one $(or $(SCENARIO),$(error name it: make molecule SCENARIO=default))

test-peers: peers ## Unmodified freqtrade and nautilus_trader on the paper venue, sealed off (4 min, then 2)
	@$(VENV)/python -m peers $(PYTEST_ARGS)

lint: bootstrap ## ruff, mypy --strict, yamllint, ansible-lint, shellcheck, documentation and locks fresh
	@$(VENV)/python tools/lint.py

fmt: bootstrap ## Rewrite Python files the way `make lint` wants them
	@$(VENV)/ruff check --fix-only --quiet .
	@$(VENV)/ruff format .

bench: $(if $(PEERS),peers,bootstrap) ## Kill to protected, steps, kill switch, memory; budgets (PEERS=1: two other bots; WRITE=1: docs/benchmarks.md)
	@$(VENV)/python $(if $(PEERS),-m peers.sealed $(VENV)/python) -m bench $(if $(PEERS),--peers) $(if $(WRITE),--write) $(if $(JSON),--json)

venue-rules: bootstrap ## The rules that the paper venue keeps, each with its documentation and its test
	@$(VENV)/python tools/venue_rules.py

bench-venue: bootstrap ## Requests and stream messages a second of the paper venue, of one core (WRITE=1: kept in docs/)
	@$(VENV)/python -m bench.venue $(if $(WRITE),--write)

lock: bootstrap ## Resolve requirements/*.in anew into hash-pinned *.txt
	@$(VENV)/python tools/lock.py

bootstrap: ## Only install the Python tools into .venv
	@tools/bootstrap.sh python

hosts: ## Only install what hosts under test need
	@tools/bootstrap.sh hosts

vms: ## Only install what virtual machines under test need, too
	@tools/bootstrap.sh vms

peers: ## Only install the peers, each in an environment of its own under .cache/peers (1.5 GB)
	@tools/bootstrap.sh peers

clean: ## Remove caches, images and what runs left behind (not .venv, not a running host)
	@tools/clean.sh

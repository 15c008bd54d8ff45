# The two commands of devagent: `make run` and `make test`. Each says what it does and is quick the second time.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# The tests start devagent as a process hundreds of times: half a second of compiling each time, if nothing keeps it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test lint servers functional unit coverage test-kernel test-package demo-host clean

# A failure anywhere in a pipe is one.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
# Side by side, each line says whose it is, and what failed is said once more at the end.
LOGS = $(VENV)/logs
LABELLED = $(if $(BESIDE),2>&1 | tee $(LOGS)/$@.log | sed -u 's/^/$@: /')
# In the guests the kernel's own deadlines run: they get a CPU whenever they want one.
YIELDING = $(if $(BESIDE),nice)

run: $(VENV)/.run
	@echo "== devagent demo: this machine, a real Placement, and what a scheduler asks"
	@$(BIN)/devagent demo

# The guests take one CPU, all other tests another: side by side they take half the time.
test: $(VENV)/.test lint servers
	@rm -rf $(LOGS) && mkdir $(LOGS)
	@$(MAKE) --no-print-directory -k -j2 BESIDE=1 functional test-kernel unit test-package || \
		{ tools/what-failed $(LOGS)/*.log; exit 1; }

lint: $(VENV)/.test
	@echo "== ruff: style"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@echo "== mypy: types, strict"
	@$(BIN)/mypy
	@echo "== import-linter: who may import whom"
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }

servers: $(VENV)/.test
	@tools/servers
	@tools/nova-venv $(VENV)/nova
	@tools/glance-venv $(VENV)/glance
	@tools/cyborg-venv $(VENV)/cyborg

functional: $(if $(BESIDE),,servers)
	@echo "== pytest: beside real servers"
	@$(YIELDING) $(BIN)/python -m pytest tests/functional $(LABELLED)

unit: $(VENV)/.test
	@echo "== pytest: everything by itself"
	@$(YIELDING) $(BIN)/python -m pytest tests/hosts tests/unit $(LABELLED)

# Which branches the tests reach: those of each room by itself, of what prepares, and the reporter's beside a real Placement.
COVERED := inventory model placement prepare
COVERING := $(COVERED:%=tests/unit/%) tests/unit/service/preparing $(patsubst %,tests/functional/test_%.py,report_faults holders placement_errors report_command reporter reports_at_once)
coverage: export COVERAGE_FILE := $(VENV)/.coverage
coverage: $(VENV)/.test
	@echo "== coverage: branches of $(COVERED)"
	@$(BIN)/python -m coverage run -m pytest -q $(COVERING)
	@$(BIN)/python -m coverage report --fail-under=0
	@for each in $(COVERED); do \
		printf '%s %%: ' $$each; \
		$(BIN)/python -m coverage report --format=total --include="devagent/$$each/*" || failed=1; \
	done; exit $${failed:-0}

# Virtual accelerators in a virtual machine; what it is made of is built once, which takes two minutes.
test-kernel: $(VENV)/.test
	@echo "== pytest: on a real kernel"
	@$(BIN)/python -m pytest tests/kernel $(LABELLED)

# sdist, wheel and the Debian package: made, installed in a Debian of its own, and purged.
test-package: $(VENV)/.test
	@echo "== pytest: packages"
	@$(YIELDING) $(BIN)/python -m pytest tests/package $(LABELLED)

# The generated host that `devagent demo` shows where the machine has nothing to show.
demo-host: $(VENV)/.test
	@$(BIN)/python -m tests.hosts.generate tests/hosts/gpu8.yaml devagent/cli/demo-host.tar.xz

$(VENV)/.run: setup.cfg pyproject.toml constraints.txt tools/install
	@PYTHON=$(PYTHON) tools/install $(VENV) demo
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml constraints.txt tools/install
	@PYTHON=$(PYTHON) tools/install $(VENV) test
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis devagent/_version.py

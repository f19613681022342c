# Two commands on a fresh machine that has python3, make and a shell:
#
#     make demo    sets up, and shows the main job on three simulated hosts
#     make test    sets up, and passes the tests
#
# Every target makes what it needs, does nothing twice, and says in one line what is missing when it cannot go on.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/.stamps

# ansible-runner and ansible-test call the tools that they find on PATH: the environment's own come first.
export PATH := $(abspath $(BIN)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Images of containers set it, and then each of the many processes that a test starts compiles our source anew.
unexport PYTHONDONTWRITEBYTECODE

COLLECTION := collections/ansible_collections/openstack/cyborg
# The long ones come first. A file is one worker's, which starts what its stories share once.
TESTS      := integration contract packaging properties scenarios unit
TEST_PATHS := $(wildcard $(TESTS:%=tests/%) $(COLLECTION)/tests/unit)
# One more than the cores that it is meant for: whoever waits, for a process or a clock, leaves his to another.
JOBS       ?= 3
LAB_JOBS   ?= 2
PYTEST_ARGS ?=
PYTEST = TMPDIR="$$($(BIN)/python tools/scratch.py)" \
         $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test long lint lab bench docs format constraints setup clean

help: ## say what there is to make
	@grep -E '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## /\1|/' \
	  | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: $(STAMPS)/run ## run the main job on three simulated hosts: no root, no network
	$(BIN)/cyborg-reconciler demo

test: $(STAMPS)/dev ## run the tests (PYTEST_ARGS='-k sriov' picks some)
	$(PYTEST) $(PYTEST_ARGS) $(TEST_PATHS)

long: $(STAMPS)/dev ## run the tests that take long: thousands of inputs, kills, migrations, whole jobs, the bench
	$(PYTEST) $(PYTEST_ARGS) tests/long

lint: $(STAMPS)/dev ## run every gate: style, types, layers, sizes, the collection's own
	$(BIN)/python tools/lint.py

lab: $(STAMPS)/dev ## run the lab: virtual hosts with real PCI devices (needs root and QEMU)
	$(BIN)/python -m tests.lab.image
	$(BIN)/python -m pytest tests/lab -m lab -n $(LAB_JOBS) -v $(PYTEST_ARGS)

bench: $(STAMPS)/dev ## measure, print a table, write JSON
	$(BIN)/python -m tests.perf

docs: $(STAMPS)/dev ## generate the reference pages from the source
	$(BIN)/python -m docs.generate

format: $(STAMPS)/dev ## let ruff format and fix what it can
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

constraints: $(STAMPS)/dev ## write constraints.txt anew from what the environment holds
	$(BIN)/python tools/constraints.py

setup: $(STAMPS)/dev ## make the environment for development, and nothing else

clean: ## remove what make built (the lab's images too)
	rm -rf $(VENV) .lab .bench build dist *.egg-info .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .ansible
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------- environment
$(STAMPS):
	@command -v $(PYTHON) >/dev/null \
	  || { echo "python3 is missing: install it (Debian: apt install python3 python3-venv), then run make again"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), and 3.11 or newer is needed: run make PYTHON=python3.11, say"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "python3-venv is missing: install it (Debian: apt install python3-venv), then run make again"; exit 1; }
	@test -x $(BIN)/pip || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@mkdir -p $@

# An editable install has each Python that starts import a finder of packages first, and a run of Ansible starts a dozen.
# Folders on the path do the same at no cost, and ansible-core looks for collections nowhere else.
LINK_FOLDERS = cd "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
  && printf '%s\n' "$(CURDIR)" "$(CURDIR)/api" "$(CURDIR)/collections" >openstack-cyborg.pth \
  && rm -f __editable__*cyborg_reconciler*

# What it takes to run; `make demo` on a fresh machine stops here.
$(STAMPS)/run: pyproject.toml constraints.txt | $(STAMPS)
	@echo "Setting up $(VENV) to run ..."
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --editable . --constraint constraints.txt
	@$(LINK_FOLDERS)
	@touch $@

# What it takes to develop and test.
$(STAMPS)/dev: pyproject.toml constraints.txt | $(STAMPS)
	@echo "Setting up $(VENV) for development ..."
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --editable '.[agent,dev]' --constraint constraints.txt
	@$(LINK_FOLDERS)
	@touch $@ $(STAMPS)/run

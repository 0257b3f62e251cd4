# Thin: each line is something a person could type. VENV: the environment; PYTHON: what makes it.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: install demo test check mutants accept bench
install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml deploy/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c deploy/constraints.txt -e '.[test,check]'
	touch $@

$(VENV)/.runs: pyproject.toml deploy/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -e $(VENV)/.installed || $(BIN)/pip install -q -c deploy/constraints.txt -e .
	touch $@

demo: $(VENV)/.runs # a process, a REST call, its result; stays up on port 8080
	$(BIN)/python deploy/demo/_shop.py 8080

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: install # for each promise: a patch that breaks it, and its test goes red
	$(BIN)/python -m tests.mutants.run

accept: install # the black-box suites against the test engine and a real Kafka
	cd tests && PATH="$(abspath $(BIN)):$$PATH" ENGINE_RUN="$(CURDIR)/tests/real/engine/run" python -m accept outbound --command "exec gateway run"
	cd tests && PATH="$(abspath $(BIN)):$$PATH" ENGINE_RUN="$(CURDIR)/tests/real/engine/run" python -m accept.inbound --command "exec gateway run"

bench: install # the gateway beside other runtimes: one table; about 25 minutes, see tests/bench/README.md
	$(BIN)/python -m tests.bench

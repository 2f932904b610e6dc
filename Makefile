# Every daily chore by one name. A fresh machine needs Python 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check lint types bench bench-quick torture clean

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed. Name one that you have: make run PYTHON=python3.12"; exit 1; }
	@echo "installing into $(VENV): a minute or two, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

run: $(VENV)/.installed        ## embedded PostgreSQL, SMTP on 127.0.0.1:2525, API on 127.0.0.1:3000
	$(BIN)/clawmail dev

# Three processes on whatever there is: half of the tests wait, for a server to start or a lease to end. A file stays
# with one process, and in the order of the folders those that take long come first.
test: $(VENV)/.installed       ## every test
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

check: lint types test         ## what .ci/run calls

bench: $(VENV)/.installed      ## an hour, 30 GB of disk; make bench BENCH='--keep DIR' keeps the large stores
	$(BIN)/python -m tests.bench $(BENCH)

bench-quick: $(VENV)/.installed
	$(BIN)/python -m tests.bench --quick

torture: $(VENV)/.installed    ## 20 minutes of kill -9, full disks and cut networks under load; every promise accounted for
	$(BIN)/python -m tests.torture $(TORTURE)

clean:
	rm -rf $(VENV) build dist *.egg-info

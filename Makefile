# Set-up, tests and the rest, one command each. Everything works on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
SDK_VENV := .venv-sdk
DATA_VENV := .venv-data
BIN := $(VENV)/bin
EXTRAS := algorithms
# Tests wait for servers and jobs more than they compute.
TEST_PROCESSES ?= 3
FUZZ_SECONDS ?= 600
FAULT_EXAMPLES ?= 5000

.PHONY: setup dev sdk data-clients demo test crash-test lint types imports check bench bench-peers fuzz faults format clean

setup: $(VENV)/.installed $(VENV)/.sandbox-programs   ## .venv with .venv/bin/millrace, and what the sandbox runs on
dev: $(VENV)/.installed-dev $(VENV)/.sandbox-programs   ## what tests and checks need on top
sdk: $(SDK_VENV)/.installed          ## the unmodified SageMaker SDK, in a virtual environment of its own

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

# Tried once: without them, and without the right to install them, all but brought images works; doctor tells.
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=10
$(VENV)/.sandbox-programs: $(VENV)/.installed
	@if ! { command -v bwrap && command -v slirp4netns; } && command -v apt-get && test "$$(id -u)" = 0; then \
		install="$(APT) install -y --no-install-recommends bubblewrap slirp4netns"; \
		sh -c "$$install" || { sh -c "$(APT) update" && sh -c "$$install"; } || true; \
	fi >/dev/null 2>&1
	@touch $@

# Tests start a PostgreSQL server of their own, so no cluster is made; without the programs, those tests are skipped.
$(VENV)/.postgresql-programs: $(VENV)/.installed
	@if ! { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; } && command -v apt-get && test "$$(id -u)" = 0; then \
		mkdir -p /etc/postgresql-common; \
		test -e /etc/postgresql-common/createcluster.conf || \
			echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; \
		install="$(APT) -o Dpkg::Options::=--force-confold install -y --no-install-recommends postgresql"; \
		sh -c "$$install" || { sh -c "$(APT) update" && sh -c "$$install"; } || true; \
	fi >/dev/null 2>&1
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[$(EXTRAS),arrow,postgresql,dev]'
	touch $@

$(SDK_VENV)/.installed: examples/requirements.txt
	test -x $(SDK_VENV)/bin/python || $(PYTHON) -m venv $(SDK_VENV)
	$(SDK_VENV)/bin/pip install --quiet --requirement examples/requirements.txt
	touch $@

data-clients: $(DATA_VENV)/.installed   ## data libraries with S3 clients of their own, in one too

$(DATA_VENV)/.installed: tests/requirements/data-clients.txt
	test -x $(DATA_VENV)/bin/python || $(PYTHON) -m venv $(DATA_VENV)
	$(DATA_VENV)/bin/pip install --quiet --requirement tests/requirements/data-clients.txt
	touch $@

demo: setup sdk                      ## the main job end to end with the unmodified SDK; exit 0 only if results were checked
	$(BIN)/python examples/demo.py --millrace $(BIN)/millrace --sdk-python $(SDK_VENV)/bin/python

test: dev sdk data-clients $(VENV)/.postgresql-programs   ## all tests
	MILLRACE_SDK_PYTHON=$(CURDIR)/$(SDK_VENV)/bin/python $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile \
		--cov --cov-report=term:skip-covered

# Each trial kills something; TRIALS=300 takes about eight minutes. SEED=2 kills at other moments.
crash-test: dev $(VENV)/.postgresql-programs   ## kill processes at random and hold jobs to what must not change
	MILLRACE_CRASH_TRIALS=$(or $(TRIALS),300) MILLRACE_CRASH_SEED=$(or $(SEED),1) $(BIN)/python -m pytest tests/crash -s --timeout 0

$(VENV)/.installed-fuzz: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --editable '.[fuzz]'
	touch $@

fuzz: $(VENV)/.installed-fuzz        ## all readers of strangers' bytes under a fuzzer, FUZZ_SECONDS in all
	$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) $(FUZZ)

faults: dev                          ## jobs whose model and store misbehave, FAULT_EXAMPLES of each kind
	MILLRACE_TEST_EXAMPLES=$(FAULT_EXAMPLES) $(BIN)/python -m pytest tests/property/dataplane/test_*faults.py --timeout 0

lint: dev
	$(BIN)/ruff check src tests bench fuzz examples scripts
	$(BIN)/ruff format --check src tests bench fuzz examples scripts

types: dev
	$(BIN)/mypy

imports: dev
	$(BIN)/lint-imports

check: lint types imports            ## everything that needs no run

format: dev
	$(BIN)/ruff format src tests bench fuzz examples scripts

bench: dev .venv-bench/.installed    ## the benchmark cases, each a ratio in one run (installs wrk where it can)
	$(BIN)/python -m bench $(BENCH)

PEERS := .venv-peers-ray/.installed .venv-peers-spark/.installed .venv-peers-daft/.installed .venv-peers-mlserver/.installed \
	.venv-peers-local-mode/.installed

bench-peers: dev .venv-bench/.installed $(PEERS)  ## the same with the peers that are heavy to install: 3 GB in all
	$(BIN)/python -m bench --peers $(BENCH)

# A peer that can't be installed is told in the table, with pip's last line; the others still take part.
.venv-%/.installed: bench/requirements/%.txt
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --requirement $< 2> .venv-$*/failed.txt && rm .venv-$*/failed.txt || cat .venv-$*/failed.txt
	touch $@

clean:
	rm -rf $(VENV) $(SDK_VENV) $(DATA_VENV) .venv-bench .venv-peers-* demo-output bench/out fuzz-corpus

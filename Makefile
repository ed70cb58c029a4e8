# Two commands do everything on a fresh Debian machine with Python 3.11 and make:
#   make demo   break real workers and real servers, print what happened
#   make test   the project's own tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Twice the two cores of a small machine: most of the time everybody waits for a timeout of Celery's.
JOBS ?= 4
SOURCES := pyproject.toml
# Every run starts some ten Python processes: each would compile anew what one of them has compiled already.
unexport PYTHONDONTWRITEBYTECODE
# What a newcomer sees first, in two minutes; `celery-chaos run` runs all that there are.
DEMO := scenarios/delivery scenarios/groups scenarios/shutdown/warm.chaos.yaml scenarios/revoked/restart.chaos.yaml \
  scenarios/persistence/broker-killed.chaos.yaml scenarios/connection/late-ack-broker-refuses.chaos.yaml

.PHONY: demo test check servers clean

demo: $(VENV)/.installed servers
	$(BIN)/celery-chaos run $(DEMO) -j 2 --server valkey-9.1
	$(BIN)/celery-chaos run $(DEMO) -j 2 --server redis-6.2

test: $(VENV)/.installed-dev servers
	$(BIN)/python -m pytest tests scenarios -n $(JOBS) --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/celery-chaos lint scenarios

servers: $(VENV)/.installed
	$(BIN)/celery-chaos servers install

# Debian ships Python without ensurepip; the package that has it is installed where we may.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV) || { \
	  echo "python3-venv is missing: installing it (as root: apt-get install python3-venv)"; \
	  rm -rf $(VENV); apt-get update -q && apt-get install -q -y python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/.installed: $(SOURCES) | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[statedb]"
	touch $@

$(VENV)/.installed-dev: $(SOURCES) $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .celery-chaos build dist

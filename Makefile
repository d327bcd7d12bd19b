PYTHON ?= python3
VENV   ?= .venv
DATA   ?= faces
MODEL  ?= vae
MINUTES ?= 5
OUT    ?=
BIN    := $(VENV)/bin

.PHONY: dream env test lint bench clean

dream: env  ## train on DATA for MINUTES with MODEL, and leave a run folder with a report
	$(BIN)/reverie train "$(DATA)" --model $(MODEL) --minutes $(MINUTES) $(if $(OUT),--out "$(OUT)")

env: $(VENV)/.made  ## the environment alone; then .venv/bin/reverie works

$(VENV)/.made: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("reverie needs Python 3.11 or newer; give one: make PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[data,dev,fast,brains,hub,tables]'
	touch $@

test: env  ## every test; needs no GPU and no network
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8

lint: env  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: env  ## the measurements of benchmarks/, with their own environment
	$(MAKE) -C benchmarks PYTHON=$(PYTHON) REVERIE=$(abspath $(BIN))

clean:
	rm -rf $(VENV) build src/*.egg-info .pytest_cache .ruff_cache .mypy_cache

# Everything runs from .venv, which is made here from requirements.txt (hashes and all).
# A bare machine needs Python 3.11 or newer with venv and pip, and make.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
N ?= 200

.PHONY: run dial demo test lint bench lock

run: $(READY)
	@exec $(BIN)/python main.py run

dial: $(READY)
	@$(BIN)/python main.py dial

demo: $(READY)
	@$(BIN)/python main.py demo $(N)

test: lint
	$(BIN)/python main.py check
	$(BIN)/python -m pytest -n 3

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python bench/run.py
	$(BIN)/python bench/estimation.py

# requirements.txt: all that developing needs. deploy/: the same versions, what the images need.
COMPILE := $(BIN)/uv pip compile pyproject.toml --python-version 3.11 --universal --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header --quiet
lock: $(READY)
	$(COMPILE) --all-extras --group dev -o requirements.txt
	$(COMPILE) --extra postgres -c requirements.txt -o deploy/requirements.txt
	$(COMPILE) --extra postgres --extra analysis -c requirements.txt -o deploy/requirements.analysis.txt

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

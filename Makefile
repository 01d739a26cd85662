# make train   set-up, then the main job
# make test    set-up, then style, types and tests
# make setup   the set-up alone: a virtual environment with the pinned packages
#
# VENV and PYTHON choose another environment and interpreter: make test VENV=.venv311 PYTHON=python3.11

VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup train test
setup: $(STAMP)

$(STAMP): requirements.txt scripts/find_python.sh
	rm -rf $(VENV)
	"$$(scripts/find_python.sh $(PYTHON))" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

train: setup
	$(BIN)/python main.py --config=configs/r18.py

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

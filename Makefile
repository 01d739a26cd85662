# make train   what JAX training needs (1.3 GB), then the main job: by the recipe for the device that is there
# make predict IMAGES=photo.jpg  what pictures show, by the network that comes with this; docs/cat.jpg unless told
# make test    all of the set-up (6.8 GB), then style, types and tests
# make parity  all of the proof: four networks, XLA's own kernels, every planted mistake, twenty runs with other seeds (hours; see docs)
# make aot     what XLA makes of the steps for an H100 and TPU v5e, into docs/accelerators.md, and the test of it
# make gpu     everything that is worth measuring on a borrowed NVIDIA GPU, by the Python that is there (see CONTRIBUTING.md)
# make style   the style and types of it alone; .pre-commit-config.yaml calls it before each commit
# make heavy   tests that take minutes: the native kernels under sanitizers, long fuzzes, slow cases
# make processes   several processes compute what one computes, whatever happens to them (20 minutes)
# make stress  processes killed, disks full and files damaged, thousands of times, into docs/reliability.md (40 minutes)
# make release RUN=runs/r18_cpu  what is published of a finished run, into dist/: weights without pickle, card, checksums
# make setup   all of the set-up alone: a virtual environment with the pinned packages
#
# VENV and PYTHON choose another environment and interpreter: make test VENV=.venv311 PYTHON=python3.11

VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JAX_STAMP := $(VENV)/.installed-jax

# What `make parity` verifies, and in how many runs with other seeds and shapes a false alarm would show.
NETWORKS := --arch=resnet18,--arch=resnet50,--arch=resnet20,--arch=resnet18 --stem=imagenet,--arch=resnet18 --cpu-kernels=xla --levels=2-4
SEEDS := 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20

.PHONY: setup train predict style test heavy processes stress parity alarms release aot gpu
setup: $(STAMP)

$(JAX_STAMP): requirements-jax.txt requirements.txt scripts/find_python.sh
	rm -rf $(VENV)
	"$$(scripts/find_python.sh $(PYTHON))" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-jax.txt
	touch $@

$(STAMP): $(JAX_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

train: $(JAX_STAMP)
	config="$$($(BIN)/python -m tools.recipe_for_here)" && $(BIN)/python main.py --config="$$config"

IMAGES ?= docs/cat.jpg

predict: $(JAX_STAMP)
	$(BIN)/python main.py --mode=predict --images $(IMAGES)

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: style
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal  # two tests with a thread each, not one with two

processes: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m processes -n 2 --dist worksteal

heavy: setup
	$(BIN)/python -m pytest -m heavy

stress: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.stress --write  # two parts at a time, with a thread each

parity: setup alarms
	echo "$(NETWORKS)" | tr , '\n' | while read -r network; do $(BIN)/python -m parity verify $$network || exit 1; done
	$(BIN)/python -m parity mutants --jobs 2

alarms: setup
	for seed in $(SEEDS); do $(BIN)/python -m parity verify --quick --width=8 --seed=$$seed || exit 1; done

release: setup
	$(BIN)/python -m tools.release $(RUN) $(if $(NAME),--name=$(NAME))

gpu:
	$(or $(PYTHON),python3) -m tools.gpu $(GPU)

AOT := .venv-aot

aot: $(AOT)/.installed
	$(AOT)/bin/python -m tools.aot
	$(AOT)/bin/python -m pytest tests/tools/test_aot.py

$(AOT)/.installed: requirements-aot.txt requirements.txt scripts/find_python.sh
	rm -rf $(AOT)
	"$$(scripts/find_python.sh $(PYTHON))" -m venv $(AOT)
	$(AOT)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-aot.txt
	touch $@

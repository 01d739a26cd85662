"""Train, evaluate and use a ResNet for CIFAR-10, in JAX/Flax or, with the same recipe, in PyTorch.

Installed by pip, `python main.py` is called `resnet18`.

python main.py --config=configs/r18.py[:variant] [--mode=train|eval|predict|summary] [--workdir=DIR]
               [--config.any.field=value]
python main.py … --coordinator=HOST:PORT --processes=2 --process_id=0   # one of several processes, JAX
torchrun --nproc-per-node=2 main.py … --config.engine=torch             # the same, PyTorch
python main.py --mode=eval --checkpoint=PATH
python main.py --mode=predict --checkpoint=PATH --images FILE_OR_FOLDER…  [--output=table|json|csv]
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import r18
from recipe.processes.world import ALONE, World
from recipe.system import files, program
from recipe.system.errors import DatasetUnavailable, UserError, choice, first_line, nearest
from recipe.system.memory import keep_freed_memory
from recipe.system.terminal import shown

if TYPE_CHECKING:  # loaded behind the flags
    from recipe.data import Dataset
    from recipe.training.engine import Engine

CONFIGS = Path(r18.__file__).parent
DEFAULT_CONFIG = CONFIGS / "r18.py"
CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, with :variant if any.")
MODE = flags.DEFINE_string("mode", "train", "train | eval | predict | summary.")
WORKDIR = flags.DEFINE_string(
    "workdir", "", "Where outputs go; else to the checkpoint's run, or to runs/<config.name>."
)
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "", "eval, predict: a checkpoint, a workdir, or a .safetensors file or a folder with one."
)
IMAGES = flags.DEFINE_multi_string("images", [], "predict: image files and folders; - is standard input.")
OUTPUT = flags.DEFINE_string("output", "table", "predict: table | json | csv.")
COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "JAX in several processes: HOST:PORT of process 0; auto where JAX knows the cluster."
)
PROCESSES = flags.DEFINE_integer("processes", None, "JAX in several processes: how many there are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "JAX in several processes: which this is, from 0.")
flags.DEFINE_alias("process-id", "process_id")

MODES = ("train", "eval", "predict", "summary")
RUN = ("config.json", "checkpoints")  # what is in a workdir, but not in a folder of weights
DEFAULT_NAME = r18.get_config().name


def main() -> int:
    """Run the program and return its exit status: 0, 2 for wrong input, 130 when interrupted.

    A prediction that can't read some of the images returns 1.
    """

    def command() -> int:
        if {"-h", "--help"} & set(sys.argv):
            print(f"{__doc__}\n{flags.FLAGS.module_help(__name__).strip()}")
            return 0
        return run(parse(), CONFIG.value)

    keep_freed_memory()
    return program.run(command, interrupted="Interrupted. Earlier checkpoints are intact.")


def run(arguments: list[str], config: ConfigDict) -> int:
    """Run the mode that the flags ask for: check the config, describe what is to be done, and do it."""
    mode = choice("mode", MODE.value, MODES)
    if arguments and mode != "predict":
        raise UserError(f"unexpected argument {arguments[0]!r}; flags start with --")

    # imported behind the flags: a wrong flag is reported at once
    from recipe.processes.launch import Launch, several
    from recipe.training import settings

    settings.check(config)
    launch = Launch(COORDINATOR.value, PROCESSES.value, PROCESS_ID.value)
    if several(launch, config.engine):
        if mode != "train":
            raise UserError(f"--mode={mode} takes one process: start it without the others")
        world = engine_of(config).join(launch)
        with world.watched():
            return compute(mode, config, world)
    if mode in ("train", "eval"):
        return compute(mode, config, ALONE)
    return predict(arguments, config) if mode == "predict" else summary(config)


def compute(mode: str, config: ConfigDict, world: World) -> int:
    """Train or evaluate. The data comes first, since without CIFAR the config becomes that of the digits."""
    from recipe import commands
    from recipe.training import precision
    from recipe.training.description import AUTO, describe_inference, describe_run

    data, notice = load_data(config)
    held_out = config.data.holdout
    checkpoint, workdir = places(mode, config)
    engine = engine_of(config)
    try:
        data = data.hold_out(held_out)
        if mode == "train":
            if world.count > 1 and config.precision == AUTO:
                raise UserError(
                    "config.precision=auto is tried out by one process alone; with several, say "
                    "--config.precision=f32 or bf16"
                )
            remark = precision.settle(config, engine, data, workdir)
            return commands.train(engine, describe_run(config, data, workdir), data, notice, remark, world)
        return commands.evaluate(
            engine, describe_inference(config), data, checkpoint, workdir / "eval",
            held_out=held_out, notice=notice,
        )  # fmt: skip
    except UserError as error:  # which may come from the data not being what was asked for
        if notice:
            raise UserError(f"{error}\n{notice}") from error
        raise


def predict(arguments: list[str], config: ConfigDict) -> int:
    """Predict the classes of images."""
    from recipe import commands
    from recipe.training.description import describe_inference

    checkpoint, workdir = places("predict", config)
    paths = [*IMAGES.value, *arguments]
    if paths and (found := bundled_weights(config, workdir)):
        checkpoint = str(found)
        notice = f"There is no run in {workdir}: predicting by the weights that come with this, {found}"
        print(notice, file=sys.stderr)
    return commands.predict(
        engine_of(config), describe_inference(config), checkpoint, paths, OUTPUT.value, workdir / "predict"
    )


def bundled_weights(config: ConfigDict, workdir: Path) -> Path | None:
    """The weights that come with this project, where no others are meant; else None.

    A name, a variant or a folder means a run, whose absence is an error.
    """
    from recipe import weights

    meant = CHECKPOINT.value or WORKDIR.value or config.name != DEFAULT_NAME
    if meant or any((workdir / name).exists() for name in RUN):
        return None
    return weights.bundled(weights.FOLDER)


def summary(config: ConfigDict) -> int:
    """Print the layer table of the config's network, which needs no data: it has no class names in it."""
    from recipe import commands, data
    from recipe.training.description import describe_model

    names = tuple(map(str, range(data.classes(config.data.name, config.data.dir))))
    return commands.summary(engine_of(config), describe_model(config, names, (0.0,) * 3, (1.0,) * 3))


def places(mode: str, config: ConfigDict) -> tuple[str, Path]:
    """The checkpoint to load, and the workdir: without --workdir the run that the checkpoint is from."""
    workdir = files.expanded(WORKDIR.value or f"runs/{config.name}")
    checkpoint = CHECKPOINT.value or str(workdir)
    given = files.expanded(checkpoint)
    if not WORKDIR.value and mode != "train" and all((given / name).exists() for name in RUN):
        workdir = given
    return checkpoint, workdir


def engine_of(config: ConfigDict) -> Engine:
    """The package of the engine that computes; nothing of the other one is loaded."""
    from recipe.training.engine import ENGINES

    return cast("Engine", importlib.import_module(ENGINES[config.engine]))


def load_data(config: ConfigDict) -> tuple[Dataset, str]:
    """Load the config's dataset. If it is not available, fall back to the digits, with a loud notice."""
    from recipe import data

    name = config.data.name
    try:
        return data.load(name, config.data.dir, download=config.data.download), ""
    except DatasetUnavailable as error:
        if config.data.fallback == "none":
            raise UserError(f"{error}\n{data.how_to_get(name)}") from error
        become_digits(config)
        return data.load("digits"), fallback_notice(name, str(error), data.how_to_get(name))


def become_digits(config: ConfigDict) -> None:
    """Apply the :digits variant, then again what was set on the command line."""
    r18.digits(config)
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    config.update_from_flattened_dict({k: v for k, v in overrides.items() if k != "data.name"})


def fallback_notice(name: str, reason: str, how_to_get: str) -> str:
    """The notice that opens and closes a run that could not have its dataset."""
    line = "*" * 100
    return (
        f"{line}\nThis is NOT {name}: it could not be had, so this run uses scikit-learn's digits instead.\n"
        f"{reason}\n{how_to_get}\n{line}"
    )


def parse() -> list[str]:
    """Parse the flags and return the arguments that are none; a wrong one becomes a `UserError`.

    ml_collections looks for a config's fields in sys.argv, whatever list is parsed.
    """
    for argument in sys.argv[1:]:  # whatever path it is: no field and no flag takes an address
        files.check_local(argument.partition("=")[2] if argument.startswith("-") else argument)
    name_config(sys.argv)
    try:
        return _parsed(sys.argv)
    except UserError:
        raise
    except Exception as error:  # ml_collections raises nearly anything for a field that does not exist
        raise unknown_field(error) from error


def _parsed(arguments: list[str]) -> list[str]:
    """Parse the flags; a `UserError` for what absl finds wrong, and for a config file that is not there."""
    try:
        rest = flags.FLAGS(arguments)[1:]
        _ = CONFIG.value.name  # where a missing config file shows
        return list(rest)
    except flags.Error as error:
        # a config file's own complaint is the last line of a traceback
        raise UserError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from error
    except OSError as error:
        raise UserError(f"no such config file: {str(error).splitlines()[-1].strip()}") from error


def name_config(arguments: list[str]) -> None:
    """Put the default config into the arguments if they name none, and its place if they name one from here.

    `configs/r18.py` is found from whatever folder; a file of that name in the current one comes first.
    """
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name not in ("-config", "--config"):
            continue
        place = i if equals else i + 1
        path, colon, variant = (value if equals else "".join(arguments[place : place + 1])).partition(":")
        own = CONFIGS.parent / path
        if path and own.parent == CONFIGS and own.exists() and not Path(path).exists():
            arguments[place] = f"{name}{equals}" * bool(equals) + f"{own}{colon}{variant}"
        return
    arguments.insert(1, f"--config={DEFAULT_CONFIG}")  # a flag's default is read too early for errors


def unknown_field(error: Exception) -> UserError:
    """The error that names the nearest valid field; of what was raised for another reason, the first line."""
    from recipe.training.settings import fields

    names = [argument.partition("=")[0].partition("config.") for argument in sys.argv]
    sys.argv = [argument for argument, name in zip(sys.argv, names, strict=True) if not name[1]]
    flags.FLAGS.unparse_flags()
    _parsed(sys.argv)
    valid = [name for name, _ in fields(CONFIG.value.to_dict())]
    unknown = next((name for *_, name in names if name and name not in valid), None)
    if unknown is None:
        return UserError(f"the flags can't be read ({first_line(error)})")
    return UserError(f"unknown config field {shown(unknown)}; {nearest(unknown, valid)}")

"""python -m tools.release WORKDIR: make of a finished run what is published of it, in dist/<name>.

That is its last state, which nothing was chosen by, as one safetensors file without pickle; a model card; and
the SHA-256 of both. `--checkpoint` takes the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from parity.convert import files as convert
from parity.convert import writing
from parity.convert.layouts import OURS
from recipe import weights
from recipe.state_dict import is_param
from recipe.system import files, program
from recipe.system.errors import UserError
from recipe.training import checkpoints, log

MOST_BYTES = 50_000_000  # of all files together
DATASETS = {"cifar10": ("CIFAR-10", "uoft-cs/cifar10"), "cifar100": ("CIFAR-100", "uoft-cs/cifar100")}
MODEL, CARD = "model.safetensors", "README.md"


def main(arguments: list[str] | None = None) -> int:
    """Make a release and say where it is; 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__.partition("\n")[0])
    parser.add_argument("workdir", type=files.expanded, help="a finished run's")
    parser.add_argument("--name", help="of the release; the run's own unless told")
    parser.add_argument(
        "--out", type=files.expanded, default=Path("dist"), help="where it goes; dist unless told"
    )

    def command() -> int:
        options = parser.parse_args(arguments)
        made = release(options.workdir, options.out, options.name)
        print(f"Made {made}; try it: python main.py --mode=predict --checkpoint={made} --images photo.jpg")
        return 0

    return program.run(command, interrupted="Interrupted. Nothing was made.")


def release(workdir: Path, out: Path, name: str | None = None) -> Path:
    """Make a run's release in a new folder below `out`, and return that.

    Raises:
      UserError: if the run is not finished, has no measured accuracy, is too large, or the folder exists.
    """
    path = checkpoints.newest(workdir / checkpoints.FOLDER / checkpoints.LATEST, "")
    if path is None:
        raise UserError(f"there is no run in {workdir}: it has no {checkpoints.FOLDER}/{checkpoints.LATEST}")
    checkpoint = convert.read(path)
    config = checkpoint.record.get("config")
    measured = [record for record in log.read_metrics(workdir) if record["step"] == checkpoint.step]
    if not config or not measured:
        raise UserError(
            f"{workdir} has no record of how accurate {path} is: the run has to evaluate it first"
        )
    record = measured[-1]
    if record["epoch"] < config["epochs"]:
        raise UserError(
            f"the run in {workdir} is at epoch {record['epoch']} of {config['epochs']}: let it end first"
        )
    folder = out / (name or config["name"])
    if folder.exists():
        raise UserError(f"{folder} is there already: remove it, or choose another --name")
    with files.atomic_folder(folder) as new:
        new.mkdir()
        writing.write(new / MODEL, checkpoint, "safetensors", OURS)
        kept = {key: value for key, value in checkpoint.record.items() if key != "progress"}
        files.write_text(new / "config.json", json.dumps(kept, indent=2) + "\n")
        files.write_text(new / CARD, card(folder.name, checkpoint, record))
        made = sorted(new.iterdir())
        sums = "".join(f"{weights.sha256(file)}  {file.name}\n" for file in made)
        files.write_text(new / weights.SUMS, sums)
        if (size := sum(file.stat().st_size for file in made)) > MOST_BYTES:
            raise UserError(
                f"{workdir} makes a release of {size / 1e6:.0f} MB, the most is {MOST_BYTES / 1e6:.0f} MB: "
                "train a smaller network, such as --config.model.arch=resnet20"
            )
    return folder


def card(name: str, checkpoint: convert.Checkpoint, measured: dict[str, Any]) -> str:
    """The model card in Markdown, with the head in YAML that hubs read; JSON's values are YAML's as well.

    Args:
      name: of the release.
      checkpoint: what is released.
      measured: the record of its evaluation; see metrics.jsonl.
    """
    model, config = checkpoint.description, checkpoint.record["config"]
    title, of_hub = DATASETS.get(model.dataset, (model.dataset, model.dataset))
    held_out = config["data"]["holdout"]
    images = f"{held_out:,} held-out training images" if held_out else "test images"
    parameters = sum(array.size for key, array in checkpoint.model.items() if is_param(key))
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": title, "type": of_hub, "split": "train" if held_out else "test"},
        "metrics": [{"type": "accuracy", "value": round(measured["test_acc"], 4)}],
    }
    head = {
        "license": "apache-2.0",
        "tags": ["image-classification", "resnet", "jax", "flax", "pytorch", "safetensors"],
        "datasets": [of_hub],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": [result]}],
    }
    yaml = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items())
    return f"""---
{yaml}
---

# {name}: {model.arch} for {title}

{parameters:,} parameters; it puts a picture of {model.image_size}×{model.image_size} pixels into one of
{model.num_classes} classes: {", ".join(model.class_names)}.

**Accuracy {measured["test_acc"]:.4f}**, cross-entropy {measured["test_loss"]:.4f}, on the {images}, without
test-time augmentation: the last state of one run of {config["epochs"]} epochs with seed {config["seed"]} in
{config["precision"]}, chosen by nothing.

`{MODEL}` holds parameters, batch statistics and, as metadata, a JSON record of the network, its input and its
training, with a SHA-256 of every tensor. In a checkout of the project that trained it:

    python main.py --mode=predict --checkpoint=THIS_FOLDER --images photo.jpg

Add `--config.engine=torch` for PyTorch. Input: RGB, standardised by the mean {_numbers(model.mean)} and the
standard deviation {_numbers(model.std)}.

**Limits.** It says one of its classes for any picture, and its probabilities are not calibrated. Pictures of
another source than its training pictures are harder for it, by how much was not measured. Do not use it for
decisions about people.
"""


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.4f}' for value in values)})"


if __name__ == "__main__":
    sys.exit(main())

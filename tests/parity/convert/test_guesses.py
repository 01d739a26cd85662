"""What a file does not say is a guess, and stays one until somebody says what is so."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import flax_resnet
import torch_ref
from parity.__main__ import main
from parity.convert import beside, guesses
from parity.convert.class_names import CIFAR10, CIFAR100, imagenet
from parity.convert.files import read
from parity.convert.layouts import LAYOUTS, recognise
from parity.convert.state_dicts import wanted_shapes
from recipe import commands
from recipe.architectures import GUESSABLE, ModelDescription
from recipe.system.errors import UserError
from recipe.training.description import Inference
from tests.parity.helpers import describe, make_checkpoint, save

SVHN = {"mean": [0.4377, 0.4438, 0.4728], "std": [0.198, 0.201, 0.197]}
TIMM = {"architecture": "resnet18", "num_classes": 10}


def foreign(folder: Path, layout: str = "kuangliu", classes: int = 10, name: str = "theirs.pth") -> Path:
    """Weights of another project, without a word about them."""
    description = describe("resnet18", LAYOUTS[layout].stem, classes=classes)
    return save(folder / name, make_checkpoint(description), "torch", LAYOUTS[layout])


def description_of(layout: str, classes: int) -> ModelDescription:
    found = LAYOUTS[layout]
    fields = guesses.usual(found.normalisation, classes, found.image_size)
    return ModelDescription("resnet18", found.stem, 2, **fields)


def corrected(layout: str, classes: int = 10, **said: Any) -> ModelDescription:
    return guesses.corrected(description_of(layout, classes), said, LAYOUTS[layout].normalisation)


def doubt(layout: str, classes: int = 10, **said: Any) -> str:
    return guesses.doubt(corrected(layout, classes, **said), LAYOUTS[layout].normalisation)


def test_all_that_names_and_shapes_do_not_say_is_marked():
    assert description_of("kuangliu", 10).guessed == GUESSABLE
    unknown = description_of("kuangliu", 3)  # of which nothing is guessed but that its data is unknown
    assert (unknown.dataset, unknown.guessed) == ("unknown", ("class_names", "mean", "std", "image_size"))


@given(st.sets(st.sampled_from(["mean", "std", "image_size"])))
def test_what_is_said_is_no_guess_and_the_rest_still_is(fields: set[str]):
    said = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "image_size": 48}
    before = description_of("torchvision", 10)
    after = corrected("torchvision", **{name: said[name] for name in fields})
    assert set(after.guessed) == set(GUESSABLE) - fields
    for name in GUESSABLE:
        assert getattr(after, name) == (said[name] if name in fields else getattr(before, name))


def test_imagenets_classes_are_torchvisions():
    from torchvision.models import ResNet18_Weights

    assert list(imagenet()) == ResNet18_Weights.IMAGENET1K_V1.meta["categories"]


def test_class_names_say_the_dataset_only_where_it_is_known():
    spelled = [name.upper() for name in CIFAR10]
    known = corrected("torchvision", class_names=spelled)
    assert (known.dataset, known.class_names) == ("cifar10", tuple(spelled))
    assert known.guessed == ("mean", "std", "image_size")
    other = corrected("kuangliu", class_names=list("0123456789"))
    assert (other.dataset, other.guessed) == ("unknown", ("mean", "std", "image_size"))


def test_the_dataset_says_the_class_names_and_the_usual_normalisation():
    known = corrected("kuangliu", 100, dataset="CIFAR-100")
    assert (known.dataset, known.class_names) == ("cifar100", CIFAR100)
    assert known.guessed == ("mean", "std", "image_size")
    other = corrected("kuangliu", dataset="svhn")
    assert other.class_names == tuple("0123456789")  # no aeroplanes
    assert other.guessed == ("class_names", "mean", "std", "image_size")
    with pytest.raises(UserError, match="there are 100 class names, but the network has 10 classes"):
        corrected("kuangliu", dataset="cifar100")


def test_what_is_likely_to_be_wrong_is_told():
    assert doubt("kuangliu") == doubt("akamaster") == doubt("torchvision", 1000) == ""
    assert doubt("torchvision") == (
        "mean and std are those of imagenet, for want of others, but its data is taken for cifar10"
    )
    assert doubt("huyvnphan", 100).endswith("its data is taken for cifar100")
    assert doubt("kuangliu", 3).endswith("its data is not known")
    assert doubt("torchvision", mean=(0.49, 0.48, 0.45), std=(0.25,) * 3) == ""
    assert doubt("edadaltocg", **SVHN).startswith("its data is taken for cifar10 by the number of classes")
    assert doubt("edadaltocg", dataset="svhn", **SVHN) == ""
    assert doubt("kuangliu", 3, **SVHN) == ""


@pytest.mark.parametrize("form", ["jax", "ours.pt", "ours.safetensors"])
def test_a_guess_stays_one_in_the_record_of_what_is_written(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = foreign(tmp_path, "torchvision")
    assert main(["convert", str(source), str(tmp_path / form), "--no-check", "--std=.2,.2,.2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    notice = (
        "class names, dataset, mean, image size: no file says what they are; python -m parity convert takes "
        "--class-names, --dataset, --mean, --image-size"
    )
    assert printed[1] == f"Guessed: {notice}"
    assert printed[2].startswith("Doubtful: mean and std are those of imagenet")
    for path in (source, tmp_path / form):
        assert main(["inspect", str(path)]) == 0
        output = capsys.readouterr().out
        assert "(guessed: class names, dataset)" in output
        assert "mean:            (0.485, 0.456, 0.406) (guessed: mean)" in output
        assert "doubtful:        mean and std are those of imagenet" in output
    assert f"guessed:         {notice}" in output
    assert read(tmp_path / form).description.guessed == ("class_names", "dataset", "mean", "image_size")
    again = ["convert", str(tmp_path / form), str(tmp_path / "new.pt"), "--no-check", "--dataset=cifar10"]
    again += ["--mean=.5,.5,.5", "--image-size=32"]
    assert main(again) == 0
    assert read(tmp_path / "new.pt").description.guessed == ()


def test_what_a_run_of_this_project_says_is_no_guess(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = save(tmp_path / "12.pt", make_checkpoint(describe(), step=12), "torch")
    assert main(["inspect", str(source)]) == 0
    assert "guess" not in capsys.readouterr().out


@pytest.mark.parametrize("engine", [flax_resnet, torch_ref])
def test_a_prediction_by_guessed_names_says_so_beside_its_output(
    engine: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    net = tmp_path / ("net" if engine is flax_resnet else "net.pt")
    assert main(["convert", str(foreign(tmp_path)), str(net), "--no-check"]) == 0
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    capsys.readouterr()
    inference = Inference(batch_size=1, cpu_kernels="xla")
    pictures = [str(tmp_path / "a.png")]
    assert commands.predict(engine, inference, str(net), pictures, "json", tmp_path) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)[0]["top"]
    assert output.err.startswith("Guessed: class names, dataset, mean, std, image size: no file says")


def test_one_output_is_no_class(tmp_path: Path):
    net = save(tmp_path / "net.pt", make_checkpoint(describe(classes=1)), "torch")
    with pytest.raises(
        UserError, match=r"net.pt can't be used for predict or eval: it has 1 output, which is no"
    ):
        commands.predict(torch_ref, Inference(), str(net), [__file__], "table", tmp_path)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [("multi_label_classification", r"a label of its own \(multi-label\)"), ("regression", "numbers")],
)
def test_outputs_that_are_no_classes_are_refused_for_prediction(
    problem: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = {"model_type": "resnet", "problem_type": problem}
    write(tmp_path, config=config)
    net = tmp_path / "net.pt"
    assert main(["convert", str(foreign(tmp_path)), str(net), "--no-check"]) == 0
    assert main(["inspect", str(net)]) == 0
    assert re.search(rf"outputs: +.*{reason}", capsys.readouterr().out)
    with pytest.raises(UserError, match=rf"net.pt can't be used for predict or eval: .*{reason}"):
        commands.predict(torch_ref, Inference(), str(net), [__file__], "table", tmp_path)
    write(tmp_path, config={**config, "problem_type": "single_label_classification"})
    assert read(tmp_path / "theirs.pth").description.outputs == "classes"
    write(tmp_path, config={**config, "problem_type": "ranking"})
    with pytest.raises(UserError, match="problem_type must be one of single_label_classification, "):
        read(tmp_path / "theirs.pth")


@pytest.mark.parametrize(
    ("heads", "reason"),
    [
        (("linear.weight", "fc.weight"), "several heads, and no one of them is the classifier (linear, fc)"),
        (("fc_a.weight", "fc_b.weight"), "several heads, and no one of them is the classifier (fc_a, fc_b)"),
        (("fc.0.weight", "fc.2.weight"), "several layers (fc.0, fc.2)"),
    ],
)
def test_several_heads_are_the_reason(heads: tuple[str, ...], reason: str):
    shapes = wanted_shapes(describe("resnet18"))
    linear = shapes.pop("linear.weight")
    with pytest.raises(UserError) as error:
        recognise({**shapes, **dict.fromkeys(heads, linear)})
    assert str(error.value) == f"not a ResNet that is known here: what follows its stages is {reason}"


def write(folder: Path, **contents: Any) -> None:
    """Files beside the weights, config="…" for config.json."""
    for name, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def said(folder: Path, **contents: Any) -> dict[str, Any]:
    write(folder, **contents)
    found = beside.read(folder, "resnet18", 10)
    return {field: value for fields in found.values() for field, value in fields.items()}


def test_timms_config_says_what_it_says(tmp_path: Path):
    fields = {"input_size": [3, 224, 224], **SVHN}
    expected = {"image_size": 224, "mean": tuple(SVHN["mean"]), "std": tuple(SVHN["std"])}
    assert said(tmp_path, config={**TIMM, "pretrained_cfg": fields}) == expected
    assert said(tmp_path, config={**TIMM, **fields}) == expected  # as older versions wrote it
    pretrained = {**fields, "num_classes": 1000}
    named = {**TIMM, "label_names": list("abcdefghij"), "pretrained_cfg": pretrained}
    assert said(tmp_path, config=named) == {**expected, "class_names": tuple("abcdefghij")}


def test_transformers_files_say_what_they_say(tmp_path: Path):
    names = {str(i): f"c{i}" for i in reversed(range(10))}
    config = {"model_type": "resnet", "id2label": names}
    assert said(tmp_path, config=config) == {"class_names": tuple(f"c{i}" for i in range(10))}
    placeholders = {str(i): f"LABEL_{i}" for i in range(10)}
    assert said(tmp_path, config={"model_type": "resnet", "id2label": placeholders}) == {}
    usual = {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.2, 0.2, 0.2],
        "rescale_factor": 0.00392156862745098,
    }
    normalised = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
    for size, pixels in ((64, 64), ({"height": 96, "width": 96}, 96), ({"shortest_edge": 224}, 224)):
        found = said(tmp_path, preprocessor_config={**usual, "size": size})
        assert found == {**normalised, "image_size": pixels}
    assert said(tmp_path, preprocessor_config={**usual, "do_normalize": False}) == {
        "mean": (0.0,) * 3, "std": (1.0,) * 3
    }  # fmt: skip


def test_files_of_these_names_about_other_things_are_passed_over(tmp_path: Path):
    for content in ({}, [], {"engine": "jax", "model": {"arch": "resnet50"}}, {"mean": 7, "name": "x"}):
        assert said(tmp_path, config=content) == {}


WRONG = {
    "classes": ({"num_classes": 100}, "num_classes is 100, the weights compute 10 outputs"),
    "features": ({"num_classes": 0}, "num_classes is 0"),
    "labels": ({"label_names": ["a", "b"]}, "it names 2 classes, the weights compute 10 outputs"),
    "label": ({"label_names": [1] * 10}, "must be a list of texts"),
    "gap": ({"id2label": {str(i + 1): "x" for i in range(10)}}, "a name for each class: 0, 1, …"),
    "depth": (
        {"architecture": "resnet50.a1_in1k"},
        "architecture is 'resnet50.a1_in1k', the weights are those",
    ),
    "two": ({"mean": [0.1, 0.2]}, "mean must be three finite numbers, not [0.1, 0.2]"),
    "words": ({"mean": ["a", "b", "c"]}, "mean must be three finite numbers"),
    "nan": ({"mean": [float("nan"), 0, 0]}, "mean must be three finite numbers, not [nan, 0, 0]"),
    "true": ({"std": [True, 1, 1]}, "std must be three finite numbers"),
    "zero": ({"std": [0.1, 0.0, 0.1]}, "std must be three positive numbers"),
    "grey": ({"input_size": [1, 28, 28]}, "input_size must be [3, pixels, pixels], not [1, 28, 28]"),
    "wide": ({"input_size": [3, 32, 64]}, "input_size must be [3, pixels, pixels]"),
    "size": ({"input_size": [3, 0, 0]}, "input_size must be a positive number of pixels"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_value_that_cannot_be_is_one_line_that_names_file_and_key(case: str, tmp_path: Path):
    fields, message = WRONG[case]
    with pytest.raises(UserError) as error:
        said(tmp_path, config={**TIMM, **fields})
    assert str(error.value).startswith(f"{tmp_path / 'config.json'}: ")
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "[" * 100_000, "\x00"])
@pytest.mark.parametrize("name", ["config", "preprocessor_config"])
def test_what_is_no_json_is_one_line(name: str, text: str, tmp_path: Path):
    write(tmp_path, **{name: text})
    with pytest.raises(UserError) as error:
        beside.read(tmp_path, "resnet18", 10)
    assert str(error.value).startswith(f"{tmp_path / name}.json, which should describe the weights")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("factor", [1, 1 / 127.5, "1/255"])
def test_pixels_on_another_scale_are_refused(factor: Any, tmp_path: Path):
    with pytest.raises(UserError, match="and not by 1/255"):
        said(tmp_path, preprocessor_config={"image_mean": [0.5] * 3, "rescale_factor": factor})


KEYS = (
    "mean", "std", "input_size", "num_classes", "id2label", "label_names", "architecture", "pretrained_cfg",
    "0", "1", "size", "crop_size", "image_mean", "do_normalize", "do_center_crop", "rescale_factor",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_json_is_taken_or_refused(content: dict[str, Any]):
    """What is taken makes a description."""
    fields: dict[str, Any] = {}
    with contextlib.suppress(UserError):
        fields |= beside._config({"architecture": "resnet18", **content}, "resnet18", 10)
    with contextlib.suppress(UserError):
        fields |= beside._preprocessor(content, "resnet18", 10)
    assert corrected("kuangliu", **fields).num_classes == 10


def test_config_json_beside_the_weights_is_read_and_not_that_beside_the_copy(tmp_path: Path, capsys: Any):
    (tmp_path / "hub").mkdir()
    (tmp_path / "out").mkdir()
    source = foreign(tmp_path / "hub")
    write(tmp_path / "hub", config={**TIMM, "pretrained_cfg": {**SVHN, "input_size": [3, 32, 32]}})
    write(tmp_path / "out", config="{ broken")
    assert main(["inspect", str(source)]) == 0
    output = capsys.readouterr().out
    assert "described by:    config.json" in output
    assert "mean:            (0.4377, 0.4438, 0.4728)\n" in output
    assert "doubtful:        its data is taken for cifar10" in output
    command = ["convert", str(source), str(tmp_path / "out" / "a.pth"), "--to=torch:kuangliu", "--no-check"]
    assert main(command) == 0
    write(tmp_path / "hub", config={**TIMM, "num_classes": 9})
    capsys.readouterr()
    assert main(["inspect", str(source)]) == 2
    error = capsys.readouterr().err
    assert "num_classes is 9, the weights compute 10 outputs; correct it, or keep the weights" in error
    assert len(error.splitlines()) == 1

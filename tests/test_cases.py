"""Scripts of what people met, in a folder beside the checkout, end as they should.

PARITY_CASES names a folder of scripts `NAME.sh CHECKOUT` that run commands of this checkout, and show
what these print and "[exit N]" behind each. The scripts are no part of the project; what is right for each
stands here.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = Path(os.environ.get("PARITY_CASES") or "not set")
SCRIPTS = {path.stem: path for path in sorted(FOLDER.glob("*.sh"))}
NEEDED = ("bash", "awk", "nice")  # by each script


class Expected(NamedTuple):
    """What a script shows."""

    statuses: Sequence[int]  # of its commands, in their order
    shown: Sequence[str] = ()  # regular expressions that its output has
    absent: Sequence[str] = ()  # and such that it has not


BACKEND = r"error: JAX has no backend for JAX_PLATFORMS={}: .*; unset JAX_PLATFORMS, or install"
ROWS: dict[str, Expected] = {
    "01_svhn_called_cifar10": Expected(
        [0, 0], [r"mean \(0\.4377, 0\.4438, 0\.4728\)", "Doubtful: its data"]
    ),
    "02_timm_cifar10_at_224": Expected([0, 0], [r"mean:\s+\(0\.4914, 0\.4822, 0\.4465\)\n", "config.json"]),
    "04_gs_workdir": Expected([2], ["error: gs://my-bucket/run"], [r"^\./gs:"]),
    "05_gs_data_dir": Expected([2], ["error: .*gs://my-bucket.*gsutil cp -r"], ["^gs:"]),
    "06_unknown_suffix": Expected(
        [2] * 5, [rf"can't write \.{suffix} files; DST ends in \.pt, \.pth, \.th"
                  for suffix in ("msgpack", "bin", "ckpt", "npz", "PTH")],
    ),
    "07_ema_of_torchvision_references": Expected(
        [2, 0, 2], ["say which with --weights=model or --weights=model_ema", "Not moved: .*n_averaged"]
    ),
    "09_heic_skipped": Expected([0, 2, 2], [r"IMG_0001\.HEIC.*HEI", "error: .*only.*HEI"], ["no image"]),
    "10_model_state_dict": Expected([0] * 5, ["wrapper 'model_state_dict'", "wrapper 'module'"]),
    "11_swa_n_averaged": Expected([0, 0], ["Not moved: n_averaged"]),
    "13_ssl_prefixes": Expected(
        [2, 0, 2],
        ["--weights=encoder_q or --weights=encoder_k", "prefix 'module.encoder.'", "no classifier"],
    ),
    "16_fedavg_counters": Expected([0, 0], [r"Not moved: num_batches_tracked \(no whole numbers"]),
    "17_numpy_arrays_in_pth": Expected([0, 0]),
    "18_hub_folder": Expected([0, 0, 2], ["sharded: 2 files", "a shard, one of 2 files of a sharded"]),
    "20_flax_files": Expected(
        [2] * 4, ["msgpack file", "NumPy archive", "pickle that torch.save did not", "orbax checkpoint of "
                  "another project", "to_torch of linen's tree: UserError"]
    ),
    "21_no_classifier": Expected([2], [r"it has no classifier \(fc or linear\)"]),
    "22_jax_platforms_cuda": Expected(
        [2] * 4, [BACKEND.format(name) for name in ("cuda", "gpu", "nonsense")], [r"^run_\w+$", "^net$"]
    ),
    "23_speed_threads": Expected([0], ["thread"]),
    "24_two_runs_one_workdir": Expected(
        [], [r"\[(first|second): exit 0\]", r"\[(first|second): exit 2\]", "another process trains in run",
             r"metrics\.jsonl: 3 \(3 epochs"],
    ),
    "25_cifar_folders": Expected([2] * 4, [r"name the folder that holds cifar10/: "]),
    "26_one_damaged_picture": Expected([1], [r"a\.jpg,", r"b\.jpg", r"c\.jpg,"]),
    "27_big_photograph": Expected([0], [r"phone108\.png"]),
    "29_url_and_stdin": Expected([2, 2], [r"error: .*https://example\.com/cat\.jpg"], ["https:/example"]),
    "30_lfs_pointer": Expected(
        [2] * 3, ["a Git LFS pointer, not the weights", "an HTML page, not the weights"]
    ),
    "32_second_start_is_quiet": Expected([0, 0], [], ["machine type", "SIGILL", "AOT"]),
    "33_unknown_xla_flag": Expected([2], ["error: .*XLA_FLAGS"], ["^run$"]),
    "35_other_stride_same_names": Expected([0], ["Assumed: a bottleneck's stride is in its 3×3"]),
    "36_bearpaw_resnet110": Expected(
        [2], [r"no ResNet known here has stages of \(18, 18, 18\) bottleneck"]
    ),
    "38_compiled_in_lightning": Expected([0] * 4, [r"come back: True[\s\S]*come back: True"]),
    "39_whole_model_pickle": Expected(
        [2], [r"was not opened, since that would run code .* \(model\.ResNet\)"]
    ),
}  # fmt: skip
# These import modules by names of long ago. That 16-bit grey is read right is in
# tests/recipe/data/test_images.py, what PyTorch compiles in tests/parity/speed/test_speed.py.
OUTDATED = ("40_deep_grey", "43_torch_compile_mode")
SLOW = (  # they train, measure or start JAX several times
    "01_svhn_called_cifar10", "11_swa_n_averaged", "16_fedavg_counters",
    "22_jax_platforms_cuda", "23_speed_threads", "24_two_runs_one_workdir", "32_second_start_is_quiet",
    "04_gs_workdir", "06_unknown_suffix", "38_compiled_in_lightning", "25_cifar_folders", "20_flax_files",
    "29_url_and_stdin", "09_heic_skipped", "10_model_state_dict", "07_ema_of_torchvision_references",
    "35_other_stride_same_names", "33_unknown_xla_flag", "27_big_photograph", "26_one_damaged_picture",
)  # fmt: skip


@pytest.mark.skipif("PARITY_CASES" not in os.environ, reason="PARITY_CASES is not set")
def test_there_are_scripts():
    assert SCRIPTS, f"no scripts in PARITY_CASES={FOLDER}"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.heavy] if name in SLOW else []) for name in SCRIPTS]
)
def test_a_script_shows_what_is_right(name: str):
    """One without a row shows no traceback."""
    if name in OUTDATED:
        pytest.skip("it imports modules that have other names now")
    missing = [tool for tool in NEEDED if not any((Path(p) / tool).exists() for p in os.get_exec_path())]
    if missing or not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip(f"it needs {', '.join(missing) or '.venv in the checkout'}")
    done = subprocess.run(
        ["bash", str(SCRIPTS[name]), str(ROOT)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    shown = done.stdout.partition("\nEXPECT:")[0]
    assert "Traceback (most recent call last)" not in shown, shown
    if name not in ROWS:
        return
    expected = ROWS[name]
    assert [int(status) for status in re.findall(r"^\[exit (\d+)\]$", shown, re.MULTILINE)] == [
        *expected.statuses
    ], shown
    for pattern in expected.shown:
        assert re.search(pattern, shown, re.MULTILINE), (pattern, shown)
    for pattern in expected.absent:
        assert not re.search(pattern, shown, re.MULTILINE), (pattern, shown)

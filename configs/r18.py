"""ResNet18 on CIFAR-10: the default recipe and its variants.

python main.py --config=configs/r18.py            200 epochs, batch 128; for an accelerator
python main.py --config=configs/r18.py:fast       80 epochs, batch 500; for an accelerator
python main.py --config=configs/r18.py:fast94     the same in 26 epochs
python main.py --config=configs/r18.py:cpu        9 epochs, small images at first; for two CPU cores
python main.py --config=configs/r18.py:cpu_long   the same in 24 epochs
python main.py --config=configs/r18.py:cpu_piecewise  its sibling with lr drops, 5 epochs
python main.py --config=configs/r18.py:resnet20   the thin ResNet20, 80 epochs; for two CPU cores
python main.py --config=configs/r18.py:digits     scikit-learn's digits; a few minutes on two CPU cores

Any field can be set on the command line: --config.optimizer.lr=0.05 --config.model.arch=resnet50
"""

import difflib
from collections.abc import Callable

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """Return the config of `variant` ("" is the default); `ValueError` for an unknown one."""
    if variant and variant not in VARIANTS:
        close = difflib.get_close_matches(variant, VARIANTS, n=1, cutoff=0) or list(VARIANTS)
        raise ValueError(f"unknown variant {variant!r} of configs/r18.py; did you mean {close[0]!r}?")
    config = default()
    if variant:
        VARIANTS[variant](config)
    return config


def default() -> ConfigDict:
    """SGD with momentum 0.9, weight decay 5e-4, and lr 0.1 dropped ×0.1 at half and three quarters."""
    config = ConfigDict()
    config.name = "r18"  # names the default workdir, runs/<name>
    config.engine = "jax"  # jax | torch: who computes; nothing else depends on it
    config.seed = 0  # draws the initial weights and every epoch's plan
    config.precision = "f32"  # bf16 (parameters, statistics, loss stay f32) | f32 (no TF32) | f64 | auto
    config.cpu_kernels = "auto"  # JAX on a CPU: auto (native code where it can be built) | xla
    config.epochs = 200  # passes over the training images
    config.batch_size = 128  # images per step; an epoch is ⌊N / batch_size⌋ full batches
    # steps between two looks at progress, checkpoints and Ctrl-C, 100 at most, and fewer where they take more
    # than seconds; JAX runs them in one program
    config.steps_per_dispatch = (
        0  # 0: 10 for JAX on an accelerator, 1 on a CPU (loops are slow) and in PyTorch
    )
    config.eval_batch_size = 500  # images per evaluation step; the last one is padded and masked
    config.label_smoothing = 0.0  # in the training loss only; the test loss is plain cross-entropy

    config.data = ConfigDict()
    config.data.name = "cifar10"  # cifar10 | cifar100 | digits | folder (one's own pictures, in data.dir)
    config.data.dir = ""  # of the data; for CIFAR "" is $TFDS_DATA_DIR, or else ~/tensorflow_datasets
    config.data.download = True  # fetch the official archive when the dataset is not there
    config.data.holdout = 0  # training images to evaluate on, in place of the test images
    config.data.fallback = "digits"  # digits | none: train on these, with a notice, without CIFAR

    config.model = ConfigDict()
    config.model.arch = "resnet18"  # resnet18 34 50 101 152, the thin resnet20 32 44 56 110, 20b …
    config.model.stem = "cifar"  # cifar (3×3) | cifar_pool (and max-pool) | imagenet (7×7/2, max-pool)
    config.model.width = 0  # channels of the first stage; 0 is the architecture's own (64; thin: 16)

    config.augment = ConfigDict()
    config.augment.pad = 4  # pixels on each side before the random crop; 0 is no crop
    config.augment.pad_mode = "zero"  # zero (black before standardisation, as torchvision) | reflect
    config.augment.flip = True  # left-right, with probability 1/2
    config.augment.cutout = 0  # side in pixels of a square set to the mean colour; 0 is none

    config.resize = ConfigDict()  # smaller training images cost less; evaluation is at the data's own size
    config.resize.sizes = ()  # pixels, after the crop and cutout, bilinear; () keeps the data's own size
    config.resize.starts = ()  # where each size begins, as a fraction of all epochs; the first is 0

    config.optimizer = ConfigDict()
    config.optimizer.lr = 0.1  # the schedule's peak
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 5e-4  # added to the gradient of every parameter, before momentum

    config.schedule = ConfigDict()
    config.schedule.name = "piecewise"  # piecewise | cosine (to 0) | triangular (linearly to 0)
    config.schedule.drops = (0.5, 0.75)  # piecewise: where lr drops, as fractions of all steps
    config.schedule.drop_factor = 0.1  # piecewise: lr is multiplied by this at every drop
    config.schedule.warmup = 0.0  # fraction of all steps over which lr first rises linearly to its peak
    config.schedule.warmup_start = 0.0  # lr at step 0 as a fraction of the peak, when warmup > 0

    config.checkpoint = ConfigDict()
    config.checkpoint.minutes = 10.0  # save within an epoch when this long has passed; 0 is never

    config.log = ConfigDict()
    config.log.seconds = 30.0  # between two plain progress lines, where there is no terminal; 0 is none
    config.log.tensorboard = True  # write event files into <workdir>/tensorboard
    return config


def digits(config: ConfigDict) -> None:
    """1,437 training images and 360 test images that come with scikit-learn; ResNet18 as it is."""
    config.name += "_digits"
    config.data.name = "digits"
    config.epochs = 5
    config.batch_size = 64
    config.augment.flip = False  # a mirrored 2 is no 2
    config.augment.pad = 2
    config.resize.sizes = config.resize.starts = ()  # whatever variant falls back on the digits
    config.optimizer.lr = 0.05
    config.schedule.name = "triangular"
    config.schedule.warmup = 0.2


def fast(config: ConfigDict) -> None:
    """80 epochs to about 95.5 % on CIFAR-10 without test-time augmentation (not run here).

    The ResNet18 recipe of KellerJordan/cifar10-zoo, its summed loss rewritten for a mean loss.
    """
    config.name += "_fast"
    config.epochs = 80
    config.batch_size = 500
    config.precision = "bf16"
    config.augment.pad_mode = "reflect"
    config.augment.cutout = 12
    config.optimizer.lr = 0.2
    config.optimizer.nesterov = True
    config.schedule.name = "triangular"
    config.schedule.warmup = 0.2
    config.schedule.warmup_start = 0.2


def fast94(config: ConfigDict) -> None:
    """26 epochs to about 94 % on CIFAR-10 without test-time augmentation: `fast`, shortened (not run here).

    ResNet18 in 26 epochs is a mark of KellerJordan/cifar10-zoo, 51 seconds on an A100.
    """
    fast(config)
    config.name += "94"
    config.epochs = 26


def cpu(config: ConfigDict) -> None:
    """9 epochs on CIFAR-10 for two CPU cores, to 0.908, with smaller images at first (docs/results/).

    Sizes are multiples of 8, so that all three halvings are even: an epoch of 16, 24 and 32 pixels costs 0.3,
    0.6 and 1; one of 20 costs 0.5.
    """
    config.name += "_cpu"
    config.epochs = 9
    config.precision = "auto"  # on a CPU the faster one of bf16 and f32, by a trial of seconds; else bf16
    config.augment.pad_mode = "reflect"
    config.resize.sizes = (16, 24, 32)  # for 4, 3 and 2 epochs
    config.resize.starts = (0.0, 4 / 9, 7 / 9)
    config.optimizer.lr = 0.2
    config.optimizer.nesterov = True
    config.schedule.name = "triangular"
    config.schedule.warmup = 0.2


def cpu_long(config: ConfigDict) -> None:
    """24 epochs on CIFAR-10, half of them at full size: 0.9375 in 79 minutes with AMX (docs/results/)."""
    cpu(config)
    config.name += "_long"
    config.epochs = 24
    config.resize.starts = (0.0, 1 / 6, 1 / 2)  # 4, 8 and 12 epochs


def cpu_piecewise(config: ConfigDict) -> None:
    """5 epochs whose curves show what the lr drops do: from the second on, nothing but lr changes."""
    cpu(config)
    config.name = config.name.removesuffix("_cpu") + "_cpu_piecewise"
    config.epochs = 5
    config.precision = "bf16"  # in either engine, whose curves are compared
    config.resize.sizes = (16, 24)
    config.resize.starts = (0.0, 0.2)
    config.optimizer.lr = 0.1
    config.schedule.name = "piecewise"
    config.schedule.drops = (0.6, 0.8)
    config.schedule.warmup = 0.1


def resnet20(config: ConfigDict) -> None:
    """The thin ResNet20 of He et al. on CIFAR-10, 0.27 million parameters: about an hour on two CPU cores.

    lr and weight decay are the best of three pairs on 5,000 held-out training images, 30 epochs each: 0.910
    right with (0.2, 5e-4), 0.904 with (0.1, 5e-4), 0.898 with (0.2, 2e-4).
    """
    config.name += "_resnet20"
    config.model.arch = "resnet20"
    config.epochs = 80
    config.precision = "bf16"
    config.optimizer.lr = 0.2
    config.optimizer.nesterov = True
    config.schedule.name = "cosine"
    config.schedule.warmup = 0.05


VARIANTS: dict[str, Callable[[ConfigDict], None]] = {
    "cpu": cpu,
    "cpu_long": cpu_long,
    "cpu_piecewise": cpu_piecewise,
    "digits": digits,
    "fast": fast,
    "fast94": fast94,
    "resnet20": resnet20,
}

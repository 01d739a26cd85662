"""The sizes, statistics and official archives of the two CIFAR datasets."""

from __future__ import annotations

import dataclasses

from recipe.data.cifar.archive import Archive, BinaryArchive, PythonArchive

_SITE = "https://www.cs.toronto.edu/~kriz"


@dataclasses.dataclass(frozen=True)
class Cifar:
    """One of the two datasets."""

    name: str  # as TensorFlow Datasets calls it
    title: str
    train_size: int  # images
    test_size: int
    mean: tuple[float, float, float]  # of the training images / 255, per channel, over all pixels
    std: tuple[float, float, float]  # likewise: over pixels, not averaged over per-image deviations
    archives: tuple[Archive, ...]  # the first is the one that is downloaded
    digest: str  # `Dataset.digest` of the whole dataset; "" where nobody here has had it
    class_names: tuple[str, ...]  # for forms that have none; () where no such form is read


# SHA-256 as in TensorFlow Datasets, MD5 as in torchvision: nobody publishes another for these files.
_CIFAR10 = Cifar(
    name="cifar10",
    title="CIFAR-10",
    train_size=50_000,
    test_size=10_000,
    mean=(0.49139968, 0.48215841, 0.44653091),
    std=(0.24703223, 0.24348513, 0.26158784),
    archives=(
        BinaryArchive(
            url=f"{_SITE}/cifar-10-binary.tar.gz",
            size=170_052_171,
            algorithm="sha256",
            digest="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            folder="cifar-10-batches-bin",
            train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            test=("test_batch.bin",),
            names={"label": "batches.meta.txt"},
        ),
        PythonArchive(
            url=f"{_SITE}/cifar-10-python.tar.gz",
            size=170_498_071,
            algorithm="md5",
            digest="c58f30108f718f92721af3b95e74349a",
            folder="cifar-10-batches-py",
            train=tuple(f"data_batch_{i}" for i in range(1, 6)),
            test=("test_batch",),
            meta="batches.meta",
            labels={"label": "labels"},
            names={"label": "label_names"},
        ),
    ),
    digest="fdb4e24d546c60e0ea363ce51a38f10e42cba0ba82f7a2853d90f9c26b2ecfb0",
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
)

_CIFAR100 = Cifar(
    name="cifar100",
    title="CIFAR-100",
    train_size=50_000,
    test_size=10_000,
    mean=(0.50707516, 0.48654887, 0.44091784),
    std=(0.26733429, 0.25643846, 0.27615047),
    archives=(
        BinaryArchive(
            url=f"{_SITE}/cifar-100-binary.tar.gz",
            size=168_513_733,
            algorithm="sha256",
            digest="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            folder="cifar-100-binary",
            train=("train.bin",),
            test=("test.bin",),
            names={"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
        ),
        PythonArchive(
            url=f"{_SITE}/cifar-100-python.tar.gz",
            size=169_001_437,
            algorithm="md5",
            digest="eb9058c3a382ffc7106e4002c42a8d85",
            folder="cifar-100-python",
            train=("train",),
            test=("test",),
            meta="meta",
            labels={"coarse_label": "coarse_labels", "label": "fine_labels"},
            names={"coarse_label": "coarse_label_names", "label": "fine_label_names"},
            md5={
                "train": "16019d7e3df5f24257cddd939b257f8d",
                "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
                "meta": "7973b15100ade9c7d40fb424638fde48",
            },
        ),
    ),
    digest="",
    class_names=(),
)

CIFAR = {cifar.name: cifar for cifar in (_CIFAR10, _CIFAR100)}

"""Making a TFDS folder from an official archive, without TensorFlow."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from recipe.data.cifar.archive import Archive, Split
from recipe.data.cifar.quiet import quiet


def prepare(name: str, archive: Archive, path: Path, directory: Path) -> None:
    """Make the folder directory/`name`/<version> from the dataset's archive at `path`.

    TensorFlow Datasets itself makes it, so that its other users find what they would have prepared. It writes
    to a temporary folder beside the final one, which it renames at the end.

    Raises:
      OSError: the folder cannot be written.
    """
    import tensorflow_datasets as tfds

    (directory / name).mkdir(parents=True, exist_ok=True)  # if that's not allowed, fail before all the work
    official = tfds.builder_cls(name)

    class Builder(official, skip_registration=True):  # type: ignore[misc, valid-type, call-arg]
        """The official builder. It needs TensorFlow only to unpack the archive and to encode images."""

        # Nothing is downloaded. The official checksums are in a file that TFDS looks for with a package
        # that it doesn't install (tensorflow/datasets#11212).
        url_infos = None

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
            contents = archive.read(path)
            for kind, names in contents.names.items():
                self.info.features[kind].names = names
            return {
                "train": _examples("train", contents.train),
                "test": _examples("test", contents.test),
            }

    Builder.name = official.name
    Builder.__module__ = official.__module__  # it's recorded in dataset_info.json
    tfds.disable_progress_bar()  # it has three, all of them for a few seconds
    with quiet(), tempfile.TemporaryDirectory() as downloads:  # there are none, but a folder for them
        builder = Builder(data_dir=os.fspath(directory), file_format="array_record")
        if builder.data_path.exists():  # empty (see tfds_folder.find), but it would pass for prepared
            shutil.rmtree(builder.data_path)
        try:
            builder.download_and_prepare(download_dir=downloads)
        except RuntimeError as error:  # of array_record, when the disk is full
            raise OSError(str(error)) from error


def _examples(split: str, content: Split) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (key, example) as the official builder does, but with PNG files instead of arrays."""
    for i, image in enumerate(tqdm(content.images, f"preparing {split} images", disable=None, leave=False)):
        labels = {kind: int(values[i]) for kind, values in content.labels.items()}
        yield i, {"id": f"{split}_{i:05d}", "image": _png(image), **labels}


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()

"""Where CIFAR-10 lies: a prepared folder, or the pieces that `pack` has made of one."""

from __future__ import annotations

from pathlib import Path

from recipe.data.cifar import tfds_folder
from recipe.system.errors import UserError
from recipe.system.files import variable
from tools.gpu import pack

NAME = "cifar10"


def find(packed: Path, unpacked: Path) -> Path:
    """The folder that holds cifar10/: $TFDS_DATA_DIR, or else what is packed, put together.

    Args:
      packed: the folder of the pieces.
      unpacked: where they are put together.

    Raises:
      UserError: if CIFAR-10 is in neither, or a piece is missing or damaged.
    """
    named = variable("TFDS_DATA_DIR")
    if named and (found := tfds_folder.find(named, NAME)):
        return found[1]
    if not (packed / pack.MANIFEST).exists():
        raise UserError(
            f"there is no CIFAR-10: neither a prepared folder in $TFDS_DATA_DIR nor pieces in {packed}; make "
            f"them where it is, python -m tools.gpu pack TFDS_FOLDER {packed}"
        )
    pack.unpack(packed, unpacked)
    return unpacked

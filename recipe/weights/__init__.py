"""The weights that come with this project: a network for CIFAR-10 in a folder as `make release` writes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from recipe.system.errors import Damaged

FOLDER = Path(__file__).parent / "resnet20"
SUMS = "SHA256SUMS"  # lines as sha256sum writes them: digits, two spaces, a file's name


def bundled(folder: Path) -> Path | None:
    """The folder of the weights that come with it, all files as they were released; None if there is none.

    Raises:
      Damaged: if a file is missing or was changed.
    """
    if not folder.is_dir():
        return None
    try:
        sums = (folder / SUMS).read_text(encoding="ascii").splitlines()
        changed = [line[66:] for line in sums if line[:64] != sha256(folder / line[66:])]
    except (OSError, UnicodeError) as error:
        raise Damaged(f"the weights in {folder} are not whole ({error}): install this again") from error
    if changed or not sums:
        raise Damaged(
            f"the weights in {folder} are damaged: {', '.join(changed) or SUMS} is not as it was released; "
            "install this again"
        )
    return folder


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""What a file is that holds no weights, or holds them in a form that is not read here, by its first bytes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from recipe.system.errors import UserError

_TREE = "load it with its own library, and give the tree to parity.to_torch if it has this project's names"
_KINDS = (  # how a file begins, what it is, and the way to go on
    (rb"version https://git-lfs", "a Git LFS pointer, not the weights: fetch them with git lfs pull"),
    (
        rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html|head)",
        "an HTML page, not the weights: download it again",
    ),
    (rb"(?i)(\xef\xbb\xbf)?\s*<\?xml", "an XML page, not the weights: download it again"),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras), which is not read here"),
    (rb"\x93NUMPY", f"one NumPy array, not a network's: {_TREE}"),
    (rb"\x1f\x8b", "compressed by gzip: unpack it first"),
    (rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "compressed: unpack it first"),
    (rb".{257}ustar", "a tar archive: unpack it first"),
    (rb"\x08[\x01-\x0c]\x12", "an ONNX file, which is not read here: take the weights that it was made of"),
    (rb".{4}TFL3", "a TFLite file, which is not read here: take the weights that it was made of"),
    (rb"GGUF", "a GGUF file (llama.cpp), which holds no network that is known here"),
    (rb"PAR1", "a parquet table, not weights"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0\0\0\0", "a picture, not weights"),
    (rb"%PDF", "a PDF document, not weights"),
    (rb"\s*\{[^\0]{8}", "JSON text, not weights: name the weights beside it, or their folder"),
    (rb"([\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9]", f"a msgpack file, such as Flax writes: {_TREE}"),
)
_BEGINNING = 512  # bytes that are looked at
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # of the pickles that torch.save wrote before its zip files


def check_kind(path: Path) -> None:
    """Raise a `UserError` that says what a file is, if it is of a known kind that is not read here."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    if not beginning:
        raise UserError(f"{path} is empty: download or copy it again")
    if beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") <= path.stat().st_size:
        return  # safetensors, which begin with the length of their header: any bytes
    for pattern, what in _KINDS:
        if re.match(pattern, beginning, re.DOTALL):
            raise UserError(f"{path} is {what}")
    if re.match(rb"\x80[\x02-\x05]", beginning) and _TORCH_MAGIC not in beginning:
        raise UserError(
            f"{path} is a pickle that torch.save did not write, and was not opened, since that can run code "
            "from the file: if you trust it, load it yourself and save its state dict with torch.save"
        )
    if beginning.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as file:
                names = file.namelist()
                arrays = [name for name in names if name.endswith(".npy")]
        except Exception:  # zipfile raises many types for a damaged file, which torch.load then names
            return
        if arrays:
            raise UserError(f"{path} is a NumPy archive (npz) of {len(arrays)} arrays: {_TREE}")
        if "model.weights.h5" in names:
            raise UserError(f"{path} is a Keras file, which is not read here")
        if not any(name.rpartition("/")[2] in ("data.pkl", "constants.pkl") for name in names):
            raise UserError(
                f"{path} is a zip file of {len(names)} files, none of torch.save: unpack it first"
            )

"""Files of torch.save read without PyTorch, whose import alone takes more memory than most of them.

A file is a pickle and the bytes of its tensors. The pickle is opened by Python's own unpickler, which gets
nothing from any module but the few things listed here; PyTorch's are replaced by what makes NumPy arrays.
"""

from __future__ import annotations

import collections
import io
import pickle
import re
import zipfile
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from recipe.system import torch_files
from recipe.system.errors import Damaged, UserError
from recipe.system.pickles import TooMuch
from recipe.training.checkpoints import unreadable

# what PyTorch calls the dtypes that NumPy has, too, and the storages of older files
_DTYPES = {
    **{name: np.dtype(name) for name in (
        "float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
        "uint64", "bool", "complex64", "complex128",
    )},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in (
        "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    )},
}  # fmt: skip
_STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
    "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
}  # fmt: skip
_NUMBERS = re.compile(r"[?biufcSU]\d*")  # NumPy's dtypes that a file may name: numbers and texts, no objects
_MODULES = {  # by older names
    "__builtin__": "builtins", "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}  # fmt: skip
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which older files begin


_SCALAR: Any = np.float64(0).__reduce__()[0]  # NumPy's functions that make a number and an array of bytes
_FROM_BUFFER: Any = np.zeros(1).__reduce_ex__(5)[0]


class _Foreign(Exception):
    """The file needs something of a module that is not listed here; its full name is the message."""


class _Imported(NamedTuple):
    """What stands for something that a file takes from a module; nothing can be changed in it."""

    name: str
    function: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        if self.function is None:
            raise _Foreign(self.name)
        return self.function(*arguments)


class _Storage(NamedTuple):
    """The bytes that tensors take their values from, and their dtype where a tensor says no other."""

    data: memoryview
    dtype: np.dtype[Any]


def load(path: Path) -> Any:
    """What a file of torch.save holds, with NumPy arrays for tensors; its other values as they are.

    Arrays share memory where tensors do. Bfloat16 and 8-bit floats are those of ml_dtypes.

    Raises:
      UserError: if the file needs more than what torch.save writes of tensors, numbers, texts and containers
        of these, is damaged, or takes much more than its size (see `recipe.system.torch_files`).
    """
    try:
        torch_files.check_file(path)
        with path.open("rb") as file:
            zipped = file.read(len(torch_files.ZIP)) == torch_files.ZIP
            file.seek(0)
            content = _from_zip(path) if zipped else _from_pickles(file, path.stat().st_size)
        torch_files.check_tensors(content, path, _stored)
    except TooMuch as error:
        raise torch_files.too_much(path, error) from error
    except _Foreign as error:
        raise torch_files.would_run(path, str(error)) from error
    except UserError:
        raise
    except Exception as error:  # zipfile, pickle and NumPy raise many types for a damaged file
        raise unreadable(path, error) from error
    return content


def _from_zip(path: Path) -> Any:
    """What torch.save writes: a zip file of a pickle, and of a file for each storage."""
    with torch_files.opened_zip(path) as archive:
        names = set(archive.namelist())
        pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"it has {len(pickles)} files named data.pkl, and those of torch.save have one")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise _Foreign("TorchScript")
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in names else b"little"

        def storage(dtype: np.dtype[Any], key: str, count: int) -> bytearray:
            del count  # which the file's size says
            try:
                data = bytearray(archive.read(f"{folder}data/{key}"))
            except zipfile.BadZipFile as error:
                raise Damaged(f"{path} is damaged ({error}): download or copy it again") from error
            return bytearray(np.frombuffer(data, dtype).byteswap().tobytes()) if order == b"big" else data

        return _Unpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _from_pickles(file: BufferedReader, size: int) -> Any:
    """What PyTorch wrote before 1.6: five pickles, and the bytes of the storages that the last one lists."""
    if (_Unpickler(file).load(), _Unpickler(file).load()) != (_MAGIC, _PROTOCOL):
        raise ValueError("it does not begin as a file of torch.save does")
    if not _Unpickler(file).load().get("little_endian", True):
        raise ValueError("it is from a computer of the other byte order")
    empty: dict[str, bytearray] = {}

    def storage(dtype: np.dtype[Any], key: str, count: int) -> bytearray:
        needed = count * dtype.itemsize
        if needed + sum(map(len, empty.values())) > size:
            raise TooMuch(f"a storage is said to have {needed:,} bytes, it has {size:,}")
        empty[key] = bytearray(needed)  # filled below
        return empty[key]

    unpickler = _Unpickler(file, storage)
    content = unpickler.load()
    for key in _Unpickler(file).load():
        data, dtype = empty[key], unpickler.storages[key].dtype
        count = int.from_bytes(file.read(8), "little")
        if count * dtype.itemsize != len(data) or file.readinto(data) != len(data):
            raise EOFError(f"storage {key} does not have its {len(data):,} bytes")
    return content


class _Unpickler(pickle.Unpickler):
    """Makes what a pickle of torch.save stands for, of the things listed here only."""

    def __init__(
        self, file: IO[bytes], storage: Callable[[np.dtype[Any], str, int], bytearray] | None = None
    ):
        """Read from `file`; `storage` gives the bytes of a dtype, a key and a number of values."""
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}
        self._storage = storage
        self._listed = _harmless()

    def find_class(self, module: str, name: str) -> Any:
        """What stands for `name` in `module`; a `_Foreign` if it is not listed."""
        full = f"{_MODULES.get(module, module)}.{name}"
        if full in self._listed:
            return self._listed[full]
        if re.fullmatch(r"torch(\.cuda|\.storage)?\.\w+Storage|torch\.[a-z]+\d+\w*|torch\.bool", full):
            return _Imported(full)
        raise _Foreign(full)

    def persistent_load(self, reference: Any) -> _Storage:
        """The storage that a pickle means by ("storage", class, key, device, number of values, part)."""
        kind, storage, key, _device, count, *part = reference
        if kind != "storage" or self._storage is None:
            raise _Foreign(str(kind))
        dtype = _DTYPES[_STORAGES[storage.name.rpartition(".")[2]]]
        if key not in self.storages:
            data = memoryview(self._storage(dtype, key, count))
            if data.nbytes < count * dtype.itemsize:
                raise EOFError(f"storage {key} has {data.nbytes:,} bytes, not {count} values of {dtype}")
            self.storages[key] = _Storage(data, dtype)
        data = self.storages[key].data
        if part and part[0]:  # as files before PyTorch 0.4 have it
            _, start, length = part[0]
            data = data[start * dtype.itemsize : (start + length) * dtype.itemsize]
        return _Storage(data, dtype)


def _harmless() -> dict[str, Any]:
    """What a file may take from modules, by full names: new objects, which no file can change for others."""

    class Namespace:
        """Stands for argparse's: attributes, which nobody reads."""

    functions: dict[str, Callable[..., Any] | None] = {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": lambda s, o, n, t, _grad, _hooks, more=None: _tensor(
            s, o, n, t, more
        ),
        "torch._utils._rebuild_tensor_v3": lambda s, o, n, t, _grad, _hooks, dtype, more=None: _tensor(
            s, o, n, t, more, _DTYPES[dtype.name.removeprefix("torch.")]
        ),
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
        "torch._tensor._rebuild_from_type_v2": lambda function, _type, arguments, _state: function(
            *arguments
        ),
        "torch.nn.parameter.Parameter": None,
        "torch.Tensor": None,
        "torch.device": lambda *name: _Imported(f"torch.device{name}"),
        "torch.serialization._get_layout": lambda name: _Imported(name),
        "numpy._core.multiarray._reconstruct": _empty_array,
        "numpy._core.multiarray.scalar": _SCALAR,
        "numpy._core.numeric._frombuffer": _FROM_BUFFER,
        "numpy.ndarray": None,
        "numpy.dtype": _dtype,
        "_codecs.encode": _encode,
        "builtins.bytes": lambda: b"",
    }
    classes = {
        "collections.OrderedDict": collections.OrderedDict, "collections.Counter": dict, "torch.Size": tuple,
        "builtins.set": set, "builtins.complex": complex, "argparse.Namespace": Namespace,
    }  # fmt: skip
    return {**classes, **{name: _Imported(name, function) for name, function in functions.items()}}


def _tensor(
    storage: _Storage, offset: int, shape: Any, strides: Any, more: Any = None, dtype: Any = None
) -> np.ndarray:
    """An array of a storage's values; NumPy checks that they are there."""
    if more:
        raise ValueError(f"a tensor that is to be changed when it is read: {', '.join(map(str, more))}")
    dtype = dtype or storage.dtype
    if 0 in shape:
        return np.empty(tuple(shape), dtype)
    size = dtype.itemsize
    return np.ndarray(tuple(shape), dtype, storage.data, offset * size, tuple(s * size for s in strides))


def _empty_array(_class: Any, shape: Any, _dtype: Any) -> np.ndarray:
    """The array without values with which NumPy begins."""
    if shape != (0,):
        raise TooMuch(f"it has an array that begins with the shape {shape}, and NumPy's begin with none")
    return np.ndarray(shape, np.int8)


def _dtype(name: Any, *_: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
        raise _Foreign(f"a NumPy array of dtype {name}")
    return np.dtype(name, copy=True)  # the state of which follows in the file


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    """How old protocols write bytes."""
    if encoding not in ("latin1", "utf-8"):
        raise _Foreign(f"_codecs.encode with {encoding}")
    return text.encode(encoding)


def _stored(value: Any) -> int | None:
    """The bytes that an array's values are in; None for what is no array."""
    if not isinstance(value, np.ndarray):
        return None
    return value.nbytes if value.base is None else memoryview(value.base).nbytes

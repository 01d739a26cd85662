"""Compiles kernels.cc and its headers for this machine, once, and makes it known to XLA."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax

from recipe.system.caches import NoCache, cache_folder, why_not_private
from recipe.system.processor import processor_flags

SOURCE = Path(__file__).with_name("kernels.cc")
TARGETS = (
    "resnet_conv_forward", "resnet_conv_input_grad", "resnet_conv_weight_grad",
    "resnet_norm_train", "resnet_norm_eval", "resnet_norm_grad",
)  # fmt: skip
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-fno-math-errno",
    "-DNDEBUG", "-fPIC", "-shared",
)  # fmt: skip


class Unavailable(Exception):
    """Why there are no native kernels here, in a few words."""


@functools.cache
def library() -> ctypes.CDLL | str:
    """Build the library if need be, load it and register its functions with XLA; or why it can't be had.

    Once per process; later calls return the same answer.
    """
    try:
        loaded = ctypes.CDLL(str(build()))
        for name in TARGETS:
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(loaded, name)), platform="cpu")
        loaded.resnet_has_amx.restype = ctypes.c_bool
    except Unavailable as why:
        return str(why)
    except (OSError, AttributeError) as error:
        return f"the library doesn't load: {error}"
    return loaded


def load() -> str:
    """Make the native kernels ready for use; "" or why they can't be had."""
    found = library()
    return found if isinstance(found, str) else ""


def has_amx() -> bool:
    """Whether there are kernels for the processor's matrix unit, and this process may use it."""
    found = library()
    return not isinstance(found, str) and bool(found.resnet_has_amx())


def build() -> Path:
    """Return the path of the compiled library, from the cache or compiled now (about 10 s).

    It is code that will run: a file is used if only this user can write to it, and if it is as it was made.

    Raises:
      Unavailable: off x86-64 Linux, without oneDNN or a C++ compiler, or when compiling fails.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Unavailable(f"no kernels for {platform.system()} on {platform.machine()}")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if not compiler:
        raise Unavailable("no C++ compiler (g++)")
    headers, library = onednn()
    command = [
        compiler, *FLAGS, f"-I{headers}", f"-I{jax.ffi.include_dir()}",
        str(SOURCE), str(library), f"-Wl,-rpath,{library.parent}",
    ]  # fmt: skip
    name = f"kernels-{fingerprint(command)}"
    try:
        folder = cache_folder()
        for kept in sorted(folder.glob(f"{name}-*.so")):
            if not why_not_private(kept.resolve()) and kept.name == _named(name, kept):
                return kept
            kept.unlink()  # truncated or altered: to load it may end the process, or run anything
        # another process may do the same at the same time: each renames its own whole file
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            output = Path(temporary) / f"{name}.so"
            done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
                raise Unavailable(f"{compiler} fails: {lines[0]}")
            output.chmod(0o700)
            return output.rename(folder / _named(name, output))
    except NoCache as why:
        raise Unavailable(str(why)) from why
    except OSError as error:
        raise Unavailable(f"can't write to {folder}: {error.strerror}") from error


def _named(name: str, library: Path) -> str:
    """The file name of a library: what it was made from, and the SHA-256 of what is in it."""
    return f"{name}-{hashlib.sha256(library.read_bytes()).hexdigest()}.so"


def onednn() -> tuple[Path, Path]:
    """The folder of oneDNN's headers and its library, from the wheels in requirements.txt."""
    found: dict[str, Path] = {}
    for package, name in (("onednn-devel-cpu-gomp", "dnnl.hpp"), ("onednn-cpu-gomp", "libdnnl.so.3")):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            raise Unavailable(f"the package {package} is not installed") from None
        paths = [Path(str(file.locate())).resolve() for file in files if file.name == name]
        if not paths or not paths[0].exists():
            raise Unavailable(f"the package {package} has no {name}")
        found[name] = min(paths, key=lambda path: len(path.parts))
    # the library by the name that the loader looks for, which may be a link
    return found["dnnl.hpp"].parent, found["libdnnl.so.3"]


def fingerprint(command: list[str]) -> str:
    """What the library depends on: sources (wherever they lie), command, versions, kind of processor."""
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True).stdout
    sources = [SOURCE, *sorted(SOURCE.parent.glob("*.h"))]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    options = [part for part in command if part != str(SOURCE)]
    versions = [version, *processor_flags(), jax.__version__, importlib.metadata.version("onednn-cpu-gomp")]
    parts = [*texts, *options, *versions]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

"""Compiled programs, kept from one start to the next."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jax
from jax._src.compilation_cache import decompress_executable

from recipe.system import plain
from recipe.system.caches import NoCache, cache_folder, private_folder
from recipe.system.files import variable
from recipe.system.processor import processor_digest


def keep_programs() -> None:
    """Let JAX keep what it compiles in the user's cache folder, unless told otherwise.

    JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false switches it off.
    Where the folder can't be written, or others can write to it, programs are compiled at every start.

    Raises:
      UserError: if a variable names no local folder.
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return
    if variable("JAX_COMPILATION_CACHE_DIR") or jax.config.values["jax_compilation_cache_dir"]:
        return
    # Beside the decoded datasets. A home folder may be shared by machines, and JAX's keys know no processors:
    # XLA would find programs for another one, and complain of each before it compiles anew.
    try:
        folder = private_folder(cache_folder() / "jax" / processor_digest())
    except NoCache:
        return
    if os.access(folder, os.W_OK):
        _remove_damaged(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # A start compiles dozens of small programs, each quicker to load than to compile.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


def _remove_damaged(folder: Path) -> None:
    """Delete programs that can't be unpacked, or that another user has put there.

    JAX complains of a damaged one at every start, and never replaces it. Damage comes easily: JAX writes them
    in place, so a killed process leaves half of one.
    """
    for program in folder.glob("*-cache"):
        with contextlib.suppress(OSError):
            try:
                sound = program.stat().st_uid == os.getuid()
                plain.check(program)
                decompress_executable(program.read_bytes())
            except Exception:  # whatever the library for the compression raises
                sound = False
            if not sound:
                program.unlink()

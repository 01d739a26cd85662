"""Compiled programs, kept from one start to the next."""

from __future__ import annotations

import os

import jax

from recipe.system.files import cache_folder, variable
from recipe.system.processor import processor_digest


def keep_programs() -> None:
    """Let JAX keep what it compiles in the user's cache folder, unless told otherwise.

    JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false switches it off.
    Where the folder can't be written, programs are compiled at every start.

    Raises:
      UserError: if a variable names no local folder.
    """
    if not jax.config.jax_enable_compilation_cache:
        return
    if variable("JAX_COMPILATION_CACHE_DIR") or jax.config.jax_compilation_cache_dir:
        return
    cache = cache_folder()
    if cache is None:
        return
    # Beside the decoded datasets. A home folder may be shared by machines, and JAX's keys know no processors:
    # XLA would find programs for another one, and complain of each before it compiles anew.
    folder = cache / "jax" / processor_digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # A start compiles dozens of small programs, each quicker to load than to compile.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)

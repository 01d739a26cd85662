"""The rule by which a workdir belongs to a run: its config.json."""

from __future__ import annotations

import json
from typing import Any

from recipe.system import files
from recipe.system.errors import UserError
from recipe.training.description import RunDescription
from recipe.training.settings import FREE, fields

CONFIG = "config.json"
DIGEST = "data.digest"  # in config.json: which pictures a folder held


def check_or_create(run: RunDescription) -> None:
    """Make a new workdir this run's, or check that it is already.

    Raises:
      UserError: if the workdir holds a run whose config differs in more than `FREE` fields, or whose pictures
        were others.
    """
    path = run.workdir / CONFIG
    if not path.exists():
        write_config(run)
        return
    try:
        theirs = dict(fields(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error}; choose another --workdir") from error
    ours = dict(fields(_content(run)))
    if theirs.get(DIGEST) != ours.get(DIGEST):
        raise UserError(
            f"{run.workdir} belongs to a run with other pictures than there are now in {ours['data.dir']}; "
            "choose another --workdir"
        )
    different = [
        f"{name} ({theirs.get(name, 'absent')} there, {value} here)"
        for name, value in ours.items()
        if theirs.get(name) != value and not name.startswith(FREE)
    ]
    if different:
        raise UserError(
            f"{run.workdir} belongs to a run with other {', '.join(different)}; choose another --workdir"
        )


def write_config(run: RunDescription) -> None:
    """Write the run's config into its workdir.

    Raises:
      UserError: if that can't be done.
    """
    try:
        files.write_text(run.workdir / CONFIG, json.dumps(_content(run), indent=2) + "\n")
    except OSError as error:
        raise UserError(f"can't write to the workdir {run.workdir}: {error.strerror}") from error


def _content(run: RunDescription) -> dict[str, Any]:
    """The config, and of a folder of pictures what is in it, since its name says nothing about that."""
    content: dict[str, Any] = json.loads(run.config_json)
    if run.data_digest:
        content["data"]["digest"] = run.data_digest
    return content

"""What was measured: a JSON file per part, written whenever one of its pieces is done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recipe.system import files, json_values
from recipe.system.errors import UserError

FORMAT = 1
Content = dict[str, Any]  # of a piece; "complete" says whether it has to be done again


class Results:
    """The results in a folder.

    Args:
      folder: where they are.
      rehearsal: whether they are a rehearsal's, which never share a folder with a GPU's.
      copy: another folder, which gets a copy of every file; None for none.

    Raises:
      UserError: if the folder holds results of the other kind, or something that is none.
    """

    def __init__(self, folder: Path, *, rehearsal: bool, copy: Path | None = None):
        self.folder, self.rehearsal, self._copy = folder, rehearsal, copy
        self._parts: dict[str, dict[str, Content]] = {}
        self._forgotten: dict[str, dict[str, Content]] = {}
        for path in sorted(folder.glob("*.json")):
            self._parts[path.stem] = self._read(path)

    def pieces(self, part: str) -> dict[str, Content]:
        """What there is of a part, by piece, in the order in which it was measured."""
        return self._parts.get(part, {})

    def is_complete(self, part: str, piece: str) -> bool:
        """Whether a piece need not be done again."""
        return bool(self.pieces(part).get(piece, {}).get("complete"))

    def forget(self, parts: Iterable[str]) -> None:
        """Have some parts measured again. What there is of them is kept until that is done."""
        for part in parts:
            self._forgotten[part] = self._parts.pop(part, {})

    def kept(self, part: str) -> dict[str, Content]:
        """What there is of a part, with what is to be measured again and was not, or not completely."""
        new = self.pieces(part)
        old = {
            name: content
            for name, content in self._forgotten.get(part, {}).items()
            if content.get("complete") and not self.is_complete(part, name)
        }
        return old | {name: content for name, content in new.items() if name not in old}

    def write(self, part: str, piece: str, content: Mapping[str, Any]) -> None:
        """Add what was measured, or put it in the place of what there is."""
        self._parts.setdefault(part, {})[piece] = dict(content)
        kept = self.kept(part)
        record = {"format": FORMAT, "part": part, "rehearsal": self.rehearsal, "pieces": kept}
        self.write_text(f"{part}.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file into the folder, and into its copy."""
        for folder in (self.folder, self._copy):
            if folder:
                files.write_text(folder / name, text)

    def _read(self, path: Path) -> dict[str, Content]:
        try:
            record = json_values.read(path)
            if record["format"] != FORMAT or record["part"] != path.stem:
                raise ValueError("another format")
            rehearsal, pieces = bool(record["rehearsal"]), dict(record["pieces"])
            if not all(isinstance(content, dict) for content in pieces.values()):
                raise ValueError("a piece that is no object")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is no result of this program ({error}): move it away, or name another folder with "
                "--output"
            ) from error
        if rehearsal != self.rehearsal:
            of = "a rehearsal" if rehearsal else "a GPU"
            other = "leave --rehearse out" if self.rehearsal else "add --rehearse"
            raise UserError(f"{path} is of {of}: name another folder with --output, or {other}")
        return pieces

"""What the folder between the steps of a comparison holds, and how it is read."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from parity.comparison.flax_mode import FlaxMode
from parity.comparison.flax_part import FlaxNetwork
from parity.comparison.inputs import Arguments
from parity.comparison.levels import ALL
from parity.comparison.offline.parts import Part
from parity.comparison.recording import Arrays, Recording
from parity.comparison.structure import Structure
from parity.comparison.torch_mode import Settings, TorchMode
from parity.comparison.weights import Weights
from recipe.system.errors import UserError
from recipe.system.json_values import Rule, each, integer, items, text

TORCH, FLAX = "torch", "flax"  # the folder's parts
NETWORK, UPDATES = "network", "updates"  # a part's files beside those of the modes
# facts of an index
SETTINGS, LEVELS, TENSORS, VERSIONS = "settings", "levels", "tensors", "versions"
DESCRIPTION, REFUSED = "description", "refused"
_DESCRIBED: dict[str, Rule] = {
    LEVELS: items(integer(1, max(ALL))), TENSORS: each(text), REFUSED: each(text), VERSIONS: each(text),
}  # fmt: skip
_RECORDED: dict[str, Rule] = {DESCRIPTION: text, REFUSED: each(text), VERSIONS: each(text)}


@dataclasses.dataclass(frozen=True)
class Network:
    """What of PyTorch's network is the same in all modes."""

    structure: Structure
    inputs: Arguments
    form: str
    weights: Weights


class DescribedTorch:
    """PyTorch's part of a comparison, as it was described.

    Args:
      folder: that `describe` wrote.

    Raises:
      UserError: if it did not, or the folder is damaged.
    """

    def __init__(self, folder: Path):
        self.part = Part(
            folder / TORCH,
            f"{folder} holds no description of a PyTorch network: python -m parity describe FILE.py --out "
            f"{folder} writes one",
        )
        self.part.check(_DESCRIBED)
        self.settings: Settings = self.part.fact(SETTINGS, Settings)
        network = self._network = self.part.read(NETWORK, Network)
        self.structure, self.inputs, self.form = network.structure, network.inputs, network.form

    def weights(self, used: Collection[str] = ()) -> Weights:
        """Those with which both networks run; which of them go to Flax was not known."""
        return self._network.weights

    def mode(self, weights: Weights, training: bool) -> TorchMode:
        """The run in one mode.

        Raises:
          UserError: if it can't be compared, as the description says.
        """
        name = "train" if training else "eval"
        _check_refused(self.part, name)
        return self.part.read(name, TorchMode)


class RecordedFlax:
    """Flax's part of a comparison, as it was recorded.

    Args:
      folder: into which `record` wrote.
      torch: the description in it.

    Raises:
      UserError: if it did not, or for another description, or the folder is damaged.
    """

    def __init__(self, folder: Path, torch: DescribedTorch):
        self._part = Part(
            folder / FLAX,
            f"{folder} holds no runs of a Flax network: python -m parity record FILE.py {folder} makes them",
        )
        self._part.check(_RECORDED)
        if self._part.facts[DESCRIPTION] != torch.part.checksum:
            raise UserError(
                f"Flax's runs in {folder} are for another description: python -m parity record FILE.py "
                f"{folder} makes new ones"
            )
        self.network = self._part.read(NETWORK, FlaxNetwork)

    def mode(self, weights: Weights, theirs: TorchMode) -> FlaxMode:
        """What belongs to what in one mode, and its runs.

        Raises:
          UserError: if it can't be compared, as was found when it was recorded.
        """
        _check_refused(self._part, theirs.name)
        found = self._part.read(theirs.name, FlaxMode)
        return dataclasses.replace(
            found,
            run=lambda way, precision: self._part.read(f"{theirs.name}-{way}-{precision}", Recording),
        )

    def updated(self, weights: Weights, grads: Arrays) -> Arrays:
        """All parameters after some updates by optax."""
        return self._part.read(UPDATES, Arrays)

    def environment(self) -> dict[str, str]:
        """Versions and the device with which it was recorded."""
        return dict(self._part.facts[VERSIONS])


class Refusals:
    """Modes that can't be compared, each with its reason: the other one may be, all the same.

    Args:
      progress: told of each.
    """

    def __init__(self, progress: Callable[[str], None]):
        self.found: dict[str, str] = {}
        self._progress = progress

    @contextmanager
    def around(self, mode: str) -> Iterator[None]:
        """Keep what refuses a mode."""
        try:
            yield
        except UserError as error:
            self.found[mode] = str(error)
            self._progress(f"{mode} mode is left out: {error}")

    def check(self, modes: Collection[str]) -> None:
        """Raise the first if no mode is left."""
        if modes and self.found.keys() >= set(modes):
            raise UserError(next(iter(self.found.values())))


def _check_refused(part: Part, mode: str) -> None:
    if mode in part.facts[REFUSED]:
        raise UserError(part.facts[REFUSED][mode])


def digests(tensors: Arrays) -> dict[str, str]:
    """A few letters for every tensor, other ones for other numbers."""
    return {name: hashlib.sha256(array.tobytes()).hexdigest()[:16] for name, array in tensors.items()}

"""Mistakes that people make when they move a network from PyTorch to Flax, and rewritings that are none.

Each is one edit of one of a pair's files, and stands in the pair's folder.
"""

from __future__ import annotations

from tests.parity.comparison.outside.kinds import Mutant, Rewriting
from tests.parity.comparison.outside.recurrent import mutants as recurrent
from tests.parity.comparison.outside.text import mutants as text
from tests.parity.comparison.outside.vision import mutants as vision

MUTANTS: tuple[Mutant, ...] = (*vision.MUTANTS, *text.MUTANTS, *recurrent.MUTANTS)
REWRITINGS: tuple[Rewriting, ...] = (*vision.REWRITINGS, *text.REWRITINGS, *recurrent.REWRITINGS)

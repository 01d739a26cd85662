"""Loss and accuracy against their definition."""

from __future__ import annotations

import math

import numpy as np

from recipe.training.metrics import evaluate


def test_evaluation_against_the_definition():
    logits = np.array([[1.0, 2.0, 0.5], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]], np.float32)
    labels = np.array([1, 1, 2])
    evaluation = evaluate(logits, labels)
    first = -math.log(math.exp(2) / (math.exp(1) + math.exp(2) + math.exp(0.5)))
    assert math.isclose(evaluation.loss, (first + 2e4 + math.log(3)) / 3, rel_tol=1e-12)
    assert (evaluation.correct, evaluation.count) == (1, 3)
    np.testing.assert_allclose(evaluation.probabilities.sum(axis=1), 1)

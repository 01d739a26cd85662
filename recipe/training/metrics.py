"""Loss and accuracy from logits, in float64, the same for both engines."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a network makes of labelled images. Every example counts exactly once."""

    loss: float  # mean cross-entropy in nats, without label smoothing
    correct: int
    probabilities: np.ndarray  # float64 (N, C)
    predictions: np.ndarray  # int (N,)

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.predictions)

    @property
    def accuracy(self) -> float:
        """The share of right predictions."""
        return self.correct / self.count


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits (N, C), in float64."""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)  # so that no exponential overflows
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def evaluate(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Evaluate logits (N, C) against int labels (N,)."""
    log_probabilities = log_softmax(logits)
    predictions = logits.argmax(axis=1)
    return Evaluation(
        loss=float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        correct=int((predictions == labels).sum()),
        probabilities=np.exp(log_probabilities),
        predictions=predictions,
    )

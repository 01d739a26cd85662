"""Level 8: the same predictions, example by example, and the same loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import flax_resnet.predict
import torch_ref.predict
from parity.budgets.reference import distance, reference_errors, scaled
from parity.cause import Cause
from parity.result import Check, Finding
from parity.verify.case import Case
from recipe.normalisation import standardisation_table
from recipe.training.description import Inference
from recipe.training.metrics import evaluate

BATCH = 250
CALIBRATION = 50  # images whose logits set the budget
MOST_IMAGES = {True: 360, False: 10_000}  # real ones, by `Case.quick`
RANDOM_IMAGES = {True: 50, False: 200}


def check(case: Case) -> Iterator[Check]:
    """Evaluate images in float32 with both engines' own predictors."""
    images, labels, source = test_set(case)
    description, ours_f32, theirs_f32 = case.description, case.flax("f32"), case.torch("f32")
    inference = Inference("f32", BATCH, case.cpu_kernels)
    flax = flax_resnet.predict.Predictor(description, ours_f32.params, ours_f32.batch_stats, inference)
    reference = torch_ref.predict.Predictor(
        description, theirs_f32.network, inference, device=torch.device("cpu")
    )
    ours, theirs = flax.logits(images), reference.logits(images)
    allowed = _budget(case, images[:CALIBRATION])
    yield Check(
        8, f"logits of {source}", "f32", "largest element",
        (Finding("logits", distance(ours, theirs, "f32"), allowed),),
    )  # fmt: skip
    findings, disagreements = [], []
    for i in np.flatnonzero(ours.argmax(1) != theirs.argmax(1)):
        best = np.sort(theirs[i])[::-1]
        margin = float(best[0] - best[1])
        # two logits may each be off by the budget
        findings.append(Finding(f"image {i}", 1.0, 1.0 if margin <= 2 * allowed else 0.0))
        disagreements.append(f"image {i}: {theirs[i].argmax()} and {ours[i].argmax()}, {margin:.2g} apart")
    same = len(images) - len(disagreements)
    findings.insert(0, Finding(f"{same} of {len(images)} predictions", 0.0, 0.0))
    # listed even if all of them are near-ties, and the check passes
    cause = Cause("", "disagreements: " + "; ".join(disagreements)) if disagreements else None
    yield Check(8, f"predictions of {source}", "f32", "disagreements", tuple(findings), cause)
    losses = [evaluate(logits, labels).loss for logits in (ours, theirs)]
    # the loss is 1-Lipschitz in the largest change of a logit, twice over (log-sum-exp and the label's own)
    finding = Finding("loss", abs(losses[0] - losses[1]), 2 * allowed)
    yield Check(8, f"loss on {source}", "f32", "loss", (finding,))


def test_set(case: Case) -> tuple[np.ndarray, np.ndarray, str]:
    """Images, uint8 (N, H, W, 3), labels (N,) and what they are: real ones if they fit the network."""
    size = case.description.image_size
    if case.data is not None and size == case.data.test_images.shape[1]:
        known = case.data.test_labels < case.description.num_classes
        count = MOST_IMAGES[case.quick]
        images, labels = case.data.test_images[known][:count], case.data.test_labels[known][:count]
        return images, labels, f"{len(images)} test images of {case.data.title}"
    rng = np.random.default_rng(case.seed)
    count = RANDOM_IMAGES[case.quick]
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, case.description.num_classes, count).astype(np.int32)
    return images, labels, f"{count} random images of {size}×{size}"


def _budget(case: Case, images: np.ndarray) -> float:
    table = standardisation_table(case.description.mean, case.description.std)
    inputs = table[images, np.arange(3)]
    errors = reference_errors(lambda x, p: {"logits": case.torch(p).logits(x)}, inputs, "f32")
    return scaled(errors, "f32")["logits"]

"""The training loop, the same for both engines.

Data flows one way: description of the run → epoch plan → step → metric record → log, checkpoint, plots.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recipe.data import Dataset
from recipe.output import plots, tables
from recipe.processes.world import ALONE, World
from recipe.system.clock import process_age
from recipe.system.errors import Damaged, UserError
from recipe.training import checkpoints
from recipe.training.description import RunDescription
from recipe.training.engine import Sums, Trainer
from recipe.training.log import NoLog, RunLog, read_metrics, unwritable
from recipe.training.metrics import Evaluation, evaluate
from recipe.training.pace import Pace
from recipe.training.progress import Progress, duration
from recipe.training.workdir import Place
from recipe.training.writer import Diverged, prune_run

WARN_AFTER_STEPS = 20
LOOK_AT_FIRST_STEPS, LOOK_EVERY_SECONDS = 20, 1.0  # at the loss, whether it is finite
WARN_ABOVE_SECONDS = 2 * 3600
CURVES_EVERY_SECONDS = 60.0  # drawing costs about a second, which is an epoch on a fast machine


class Interrupted(Exception):
    """The run was asked to stop, and has saved its state."""


class TrainingLoop:
    """Drives an engine's trainer through the epochs of a run, and keeps the run's log.

    Args:
      run: what to train.
      data: the dataset.
      trainer: the engine's trainer of the same run, before its first step.
      world: the processes of the run. Process 0 alone reads and writes the workdir.
      log_start_up: whether to log how long the process took to the first step.
    """

    def __init__(
        self,
        run: RunDescription,
        data: Dataset,
        trainer: Trainer,
        world: World = ALONE,
        *,
        log_start_up: bool = False,
    ):
        self._run, self._data, self._trainer, self._world = run, data, trainer, world
        self._log_start_up = log_start_up
        self._log = RunLog(run.workdir) if world.is_main else NoLog()
        self._first_epoch = self._start_step = 0
        self._place = Place(run.workdir)
        self._last_save = self._last_curves = self._last_look = time.monotonic()
        self._stop = self._evaluating = self._warned = False
        self._paces: dict[int | None, Pace] = {}  # by the size of the images, on which a step's time depends

    def restore(self) -> None:
        """Go on from the workdir's newest checkpoint that is whole, if it has any; say what is not.

        Damaged checkpoints and the records behind the one that is taken are set aside, not deleted.

        Raises:
          UserError: if all checkpoints are damaged, or the newest is another engine's or has diverged.
        """
        run, trainer = self._run, self._trainer
        evaluated = self._world.is_main and self._restore_newest()
        trainer.share_state()
        # An epoch whose steps are done, but whose sums are still there, was stopped before its evaluation.
        unfinished = trainer.sums().steps > 0
        self._start_step = trainer.step
        self._first_epoch = (trainer.step - int(unfinished)) // run.steps_per_epoch
        self._log.resume(epochs=self._first_epoch)
        if evaluated and self._log.records and self._log.records[-1]["test_acc"] > self._best_accuracy():
            self._save(checkpoints.BEST)  # a kill came before it was saved

    def _restore_newest(self) -> bool:
        """Go on from the newest checkpoint that is whole, and set aside newer ones, which are damaged.

        Returns:
          whether the step that it is of has been evaluated: then the epoch's sums are reset.
        """
        run, trainer = self._run, self._trainer
        damaged: dict[Path, Damaged] = {}
        for path in checkpoints.of_run(run.workdir, trainer.checkpoint_suffix):
            try:
                trainer.restore(path)
            except Damaged as error:
                damaged[path] = error
                continue
            for other, reason in damaged.items():
                aside = checkpoints.set_aside(other)
                self.say(f"{reason}; it is now {aside}, and the run goes on from {path}")
            break
        else:
            if damaged:
                raise UserError(
                    f"no checkpoint in {run.workdir} is whole: {next(iter(damaged.values()))}; choose "
                    "another --workdir to begin anew"
                )
            if read_metrics(run.workdir):
                self.say(f"{run.workdir} has records of epochs, but no checkpoint: the run begins anew")
        prune_run(run.workdir)
        evaluated = any(record["step"] == trainer.step for record in read_metrics(run.workdir))
        if evaluated:
            trainer.reset_sums()  # saved before the epoch's evaluation, which has been done since
        return evaluated

    def _best_accuracy(self) -> float:
        """The test accuracy of the best checkpoint on disk; -1 where there is none.

        Where its record is lost, it stays until an epoch is better than all that are recorded.
        """
        folder = self._run.workdir / checkpoints.FOLDER / checkpoints.BEST
        path = checkpoints.newest(folder, self._trainer.checkpoint_suffix)
        if path is None:
            return -1.0
        accuracies = {record["step"]: record["test_acc"] for record in self._log.records}
        step = checkpoints.step_of(path)
        return accuracies[step] if step in accuracies else max(accuracies.values(), default=-1.0)

    def train(self) -> Evaluation:
        """Train to the end and return the last evaluation.

        Raises:
          Interrupted: after Ctrl-C, SIGTERM or SIGHUP, or when nobody reads the output any more; the state is
            saved.
          UserError: if the loss stops being finite, or something can't be saved.
        """
        evaluation = None
        with self._stoppable(), self._saving():
            if self._run.tensorboard:
                self._log.open_events(self._trainer.step)
            self._introduce()
            for epoch in range(self._first_epoch, self._run.epochs):
                evaluation = self._epoch(epoch)
            if evaluation is None:  # there was nothing left to do
                evaluation = self._evaluate()
            self._settle()
        if self._world.is_main:
            self._report(evaluation)
        return evaluation

    def say(self, text: str) -> None:
        """Print a line and log it."""
        self._log.say(text)

    def _introduce(self) -> None:
        run, data, step = self._run, self._data, self._trainer.step
        self.say(
            f"{data.title}: {len(data.train_images)} training and {len(data.test_images)} test images "
            f"from {data.source}"
        )
        self.say(f"{run.model.arch}, {run.precision}, seed {run.seed}; {self._trainer.runtime}")
        done = f"; going on at step {step}" if step else ""
        epochs = "1 epoch" if run.epochs == 1 else f"{run.epochs} epochs"
        self.say(
            f"{epochs} of {run.steps_per_epoch} steps with {run.batch_size} images each, "
            f"in {run.workdir}{done}"
        )

    def train_epoch(self, epoch: int) -> tuple[Sums, float, float]:
        """Do what is left of an epoch's steps.

        Returns:
          the epoch's sums, the seconds that the steps took (the plan is made before), and images per second
          without the first dispatch, which may have to be compiled.

        Raises:
          Interrupted: if the run was asked to stop.
          UserError: if the loss is not finite.
        """
        run, trainer = self._run, self._trainer
        end = (epoch + 1) * run.steps_per_epoch
        image_size = run.image_size_of_epoch(epoch)
        trainer.start_epoch(run.plan_of_epoch(epoch), image_size)
        compiled = image_size in self._paces
        pace = self._paces.setdefault(image_size, Pace(trainer, self._world, f"pace/{image_size}"))
        started = time.monotonic()
        progress = Progress(
            epoch + 1,
            run.epochs,
            run.steps_per_epoch,
            trainer.step - epoch * run.steps_per_epoch,
            run.batch_size,
            run.log_seconds,
            compiled=compiled,
        )
        with contextlib.closing(progress):
            while trainer.step < end:
                pace.dispatch(at_most=end - trainer.step)
                stop = trainer.any_process(self._stop_asked)
                self._start_up_is_over()
                self._stop_if_diverged(epoch)  # before that is saved
                progress.update(trainer.step - epoch * run.steps_per_epoch, trainer, self.say)
                self._warn_if_slow(progress.images_per_second())
                self._save_if_due()
                self._stop_if(stop)
            sums = trainer.sums()
            speed = progress.images_per_second()
        return sums, time.monotonic() - started, speed

    def _epoch(self, epoch: int) -> Evaluation:
        run, trainer = self._run, self._trainer
        sums, seconds, speed = self.train_epoch(epoch)
        self._require_finite("training", sums.loss, epoch)
        evaluation = self._evaluate()
        # the last update comes behind the last training loss
        self._require_finite("test", evaluation.loss, epoch)
        record = {
            "epoch": epoch + 1,
            "step": trainer.step,
            "lr": trainer.learning_rate(trainer.step - 1),
            "train_loss": sums.loss / sums.steps,
            "train_acc": sums.correct / (sums.steps * run.batch_size),
            "test_loss": evaluation.loss,
            "test_acc": evaluation.accuracy,
            "images_per_second": speed,
            "seconds": seconds,
            "dataset": self._data.name,
        }
        self._settle()  # what is on disk decides; the saves had an epoch's time
        best = self._best_accuracy() if self._world.is_main else math.inf
        self._log.record(record)
        self.say(
            f"Epoch {epoch + 1}/{run.epochs}: train loss {record['train_loss']:.4f} "
            f"acc {record['train_acc']:.4f} | test loss {evaluation.loss:.4f} acc {evaluation.accuracy:.4f} "
            f"| lr {record['lr']:.3g} | {speed:.0f} img/s, {duration(seconds)}"
        )
        trainer.reset_sums()
        self._save(checkpoints.LATEST)
        if evaluation.accuracy > best:
            self._save(checkpoints.BEST)
        if self._world.is_main and time.monotonic() - self._last_curves > CURVES_EVERY_SECONDS:
            self._draw_curves()
        return evaluation

    def _evaluate(self) -> Evaluation:
        """Evaluate all of the test set. It changes nothing, so a stop request may cut it short.

        With several processes it goes on to its end, since all of them compute it.
        """
        self._stop_if(self._trainer.any_process(self._stop_asked, now=True))
        try:  # both, since a signal may come between any two of these lines
            try:
                self._evaluating = self._world.count == 1
                logits = self._trainer.logits(self._data.test_images)
            finally:
                self._evaluating = False
        except KeyboardInterrupt:
            self._stop_if(self._stop_asked)
            raise
        return evaluate(logits, self._data.test_labels)

    def _start_up_is_over(self) -> None:
        """Log, once, how long it took to queue the first dispatch, and until it was done."""
        if self._log_start_up:
            self._log_start_up = False
            under_way = process_age()
            self._trainer.sums()  # waits
            self.say(
                f"First step under way {under_way:.1f} s after the start, done after {process_age():.1f} s"
            )

    def _stop_if_diverged(self, epoch: int) -> None:
        """Look at a recent loss: after each first step, then each second, since that may wait for it."""
        now = time.monotonic()
        first = self._trainer.step < self._start_step + LOOK_AT_FIRST_STEPS
        if self._world.is_main and (first or now - self._last_look >= LOOK_EVERY_SECONDS):
            self._last_look = now
            self._require_finite("training", self._trainer.recent_sums().loss, epoch)

    def _warn_if_slow(self, images_per_second: float) -> None:
        """Warn, once, of a long run on a CPU, as soon as 20 steps have shown its speed."""
        step = self._trainer.step
        if self._warned or step < self._start_step + WARN_AFTER_STEPS or not images_per_second:
            return
        self._warned = True
        seconds = (self._run.schedule.total - step) * self._run.batch_size / images_per_second
        if self._trainer.on_cpu and seconds > WARN_ABOVE_SECONDS:
            self.say(
                f"This CPU will need about {duration(seconds)} for the whole run ({images_per_second:.0f} "
                "img/s). Quick variants: --config=configs/r18.py:digits takes minutes, :cpu less than an "
                "hour. Ctrl-C saves; the same command goes on."
            )

    def _save(self, kind: str) -> None:
        if not self._world.is_main:
            return
        self._place.require()
        try:
            self._trainer.save(kind)
        except Diverged as error:
            raise self._diverged(str(error)) from error
        self._last_save = time.monotonic()

    def _settle(self) -> None:
        """Return when everything is on disk, and the workdir still where it was: a save may go elsewhere."""
        self._trainer.wait_for_checkpoints()
        if self._world.is_main:
            self._place.require()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Let the save under way end before an error leaves the run: at Python's end orbax can't."""
        try:
            yield
        except Exception:
            with contextlib.suppress(UserError):
                self._trainer.wait_for_checkpoints()
            raise

    def _require_finite(self, part: str, loss: float, epoch: int) -> None:
        """Raise a `UserError` if a loss is not finite."""
        if not math.isfinite(loss):
            raise self._diverged(f"the {part} loss is not finite in epoch {epoch + 1}")

    def _diverged(self, reason: str) -> UserError:
        """The error for a run that has diverged; names the last state that is finite."""
        with contextlib.suppress(UserError):
            self._trainer.wait_for_checkpoints()
        found = checkpoints.of_run(self._run.workdir, self._trainer.checkpoint_suffix)
        kept = f"the last finite state is {found[0]}" if found else "no finite state was saved"
        return UserError(
            f"{reason}: the run has diverged; a lower config.optimizer.lr helps, in another --workdir "
            f"({kept})"
        )

    def _save_if_due(self) -> None:
        minutes = self._run.checkpoint_minutes
        if minutes and time.monotonic() - self._last_save >= 60 * minutes:
            self._save(checkpoints.LATEST)

    @property
    def _stop_asked(self) -> bool:
        """Whether this process was asked to stop, or talks to nobody."""
        return self._stop or not self._log.heard

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Let the first Ctrl-C, SIGTERM or SIGHUP ask for a stop; a second one ends the process at once.

        A closed terminal sends SIGHUP. Under nohup it is ignored, and stays so.
        """

        def ask(number: int, frame: object) -> None:
            second, self._stop = self._stop, True
            if second or self._evaluating:
                raise KeyboardInterrupt  # a library may swallow it; the request stays

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        previous = {number: signal.signal(number, ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop_if(self, asked: bool) -> None:
        if not asked:
            return
        trainer = self._trainer
        self._save(checkpoints.LATEST)
        self._settle()
        self.say(
            f"Interrupted at step {trainer.step} of {self._run.schedule.total}. Everything is saved; "
            "the same command goes on from here."
        )
        raise Interrupted

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """Make a picture that can't be written a `UserError` that says how to go on."""
        self._place.require()
        try:
            yield
        except OSError as error:
            raise unwritable(Path(error.filename or self._run.workdir), error) from error
        self._place.require()  # else it may be in another place

    def _draw_curves(self) -> None:
        run = self._run
        drops = [(step / run.steps_per_epoch, label) for step, label in run.schedule.drops]
        with self._drawing():
            plots.curves(
                self._log.records,
                run.workdir / "curves.png",
                title=f"{run.model.arch} on {self._data.title}",
                changes=[*drops, *run.resize.changes(run.epochs)],
            )
        self._last_curves = time.monotonic()

    def _report(self, evaluation: Evaluation) -> None:
        self._draw_curves()
        with self._drawing():
            write_pictures(
                evaluation,
                self._data,
                self._run.workdir,
                title=f"{self._run.model.arch} on {self._data.title}",
            )


def write_pictures(evaluation: Evaluation, data: Dataset, folder: Path, *, title: str) -> None:
    """Write confusion.png and mistakes.png, both of the test set."""
    matrix = tables.confusion_matrix(data.test_labels, evaluation.predictions, len(data.class_names))
    plots.confusion(matrix, data.class_names, folder / "confusion.png", title=title)
    plots.mistakes(
        data.test_images,
        data.test_labels,
        np.asarray(evaluation.probabilities),
        data.class_names,
        folder / "mistakes.png",
        title=title,
    )

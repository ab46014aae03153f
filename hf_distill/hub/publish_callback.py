"""Publishing a teacher while it trains: checkpoints go to the Hub in the background, and training never waits."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_distill.hub.hub_writer import HubWriter
from hf_distill.hub.publish import Kind, Published, put_final, put_revision, snapshot_of
from hf_distill.hub.publishable import model_files
from hf_distill.hub.teacher_card import held_out_metrics
from hf_distill.redaction import without_secrets
from hf_distill.teachers.checkpoint_files import TRAINER_STATE, checkpoints_in
from hf_distill.teachers.retry import Backoff

logger = logging.getLogger(__name__)

# The Trainer's own pushes leave out what begins with "_".
SPOOL = "_publishing"
PATIENT = Backoff(tries=10, longest_seconds=300.0)


class PublishTeacherCallback(TrainerCallback):
    """Pushes every checkpoint of a training as revision `step-N`, live, and the last one to main at the end.

    A checkpoint is first linked (or copied) into `output_dir/_publishing`, so that `save_total_limit` cannot take it
    away under the upload; it is removed from there once it is on the Hub. Whatever goes wrong is logged and leaves
    training alone; what was not pushed stays in that folder, and the next start of the training, or
    `hf-distill teachers publish`, goes on with it.

    Args:
        repo_id: "org/name"; made where it does not exist.
        kind: What a revision is: a branch or a tag.
        private: Make a private repository, and refuse one that is public.
        token: Access token; None means the one that `hf auth login` keeps. It appears in no log.
        backoff: How often to try.
        wait_seconds: How long the end of training waits for uploads; None for as long as they take.
    """

    def __init__(
        self,
        repo_id: str,
        *,
        kind: Kind = "branch",
        private: bool = False,
        token: str | None = None,
        backoff: Backoff = PATIENT,
        wait_seconds: float | None = None,
    ) -> None:
        self.writer = HubWriter(repo_id, token=token, backoff=backoff)
        self.kind = kind
        self.private = private
        self.wait_seconds = wait_seconds
        self.published: list[Published] = []
        self.failures: list[str] = []
        self._metrics: dict[str, dict[str, float]] = {}
        self._queue: queue.Queue[Path | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the background thread on what an earlier session left."""
        if not state.is_world_process_zero:
            return
        self.published, self.failures, self._queue = [], [], queue.Queue()
        for folder in checkpoints_in(Path(args.output_dir) / SPOOL):
            self._queue.put(folder)
        self._thread = threading.Thread(target=self._work, name="publish-teacher", daemon=True)
        self._thread.start()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Hand the checkpoint just written to the background."""
        if self._thread is None:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        try:
            self._queue.put(spooled(folder, Path(args.output_dir) / SPOOL))
        except (OSError, ValueError) as error:
            self._note(folder.name, error)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Wait for the uploads and say what could not be pushed."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(self.wait_seconds)
        unfinished = self._thread.is_alive()
        self._thread = None
        if unfinished or self.failures:
            logger.warning(
                "Not everything of the teacher is on the Hub yet (%s). Nothing is lost; go on with: "
                "hf-distill teachers publish %s %s",
                "uploads are under way" if unfinished else self.failures[0],
                args.output_dir,
                self.writer.repo_id,
            )

    def _work(self) -> None:
        folder = self._queue.get()
        last: Path | None = None
        while folder is not None:
            if self._publish(folder):
                _discard(last)
                last = folder
            folder = self._queue.get()
        if last is not None and not self.failures:
            try:
                put_final(self.writer, last, self._metrics)
            except Exception as error:
                self._note("main", error)
                return
        _discard(last)

    def _publish(self, folder: Path) -> bool:
        snapshot = snapshot_of(folder)
        try:
            if not self.published:
                self.writer.create(private=self.private)
            done = put_revision(self.writer, snapshot.name, model_files(folder), kind=self.kind)
        except Exception as error:
            # Training goes on whatever happens here: the checkpoint is on disk and can be published later.
            self._note(folder.name, error)
            return False
        self.published.append(done)
        self._metrics[snapshot.name] = held_out_metrics(folder)
        logger.info("%s is on the Hub as %s@%s", folder.name, self.writer.repo_id, snapshot.name)
        return True

    def _note(self, what: str, error: Exception) -> None:
        self.failures.append(without_secrets(f"{what}: {error}"))
        logger.warning("Publishing failed, training goes on. %s", self.failures[-1])


def spooled(checkpoint: Path, spool: Path) -> Path:
    """Link what may be published of a checkpoint into a folder of the same name in `spool`; whole or not at all.

    Raises:
        ValueError: The checkpoint is not whole.
        OSError: There is no room.
    """
    target = spool / checkpoint.name
    files = [*model_files(checkpoint).values(), checkpoint / TRAINER_STATE]
    half = spool / f"half-{checkpoint.name}"
    for folder in (half, target):
        shutil.rmtree(folder, ignore_errors=True)
    half.mkdir(parents=True)
    for path in files:
        try:
            os.link(path, half / path.name)
        except OSError:
            # Not every file system knows hard links.
            shutil.copyfile(path, half / path.name)
    return half.rename(target)


def _discard(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()

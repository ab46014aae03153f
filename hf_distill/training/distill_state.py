"""distill_state.json: what a checkpoint must remember of a distillation run, and the refusal to resume another one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_distill.atomic import atomic_write_json, json_ready
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint, trainer_checkpoint_problem
from hf_distill.training.engine_checkpoint import Launch

STATE_NAME = "distill_state.json"


@dataclass(kw_only=True)
class DistillState:
    """What cannot be recomputed from the step.

    Attributes:
        curriculum: The curriculum's specification.
        revisions: Name, step, source, revision and commit of each teacher revision.
        switches: Steps at which stages changed so far.
        chosen: The revision that `auto` resolved to.
        seconds: Training time so far, over all sessions.
        stalls: Seconds waited at each change of the revision.
        layers: [student, teacher] layers that `layers: cka` found.
        engine: What trained the student.
        processes: On how many processes.
    """

    curriculum: dict[str, Any]
    revisions: list[dict[str, Any]]
    switches: list[int]
    chosen: str | None = None
    seconds: float = 0.0
    stalls: list[float]
    layers: list[list[int]] | None = None
    engine: str | None = None
    processes: int | None = None

    @property
    def launch(self) -> Launch | None:
        """How the run was started that left the state; None where it did not say."""
        return Launch(self.engine, self.processes) if self.engine is not None and self.processes is not None else None

    def save(self, folder: str | Path) -> None:
        """Write the state into a checkpoint, atomically."""
        atomic_write_json(Path(folder) / STATE_NAME, asdict(self))

    @classmethod
    def load(cls, folder: str | Path) -> DistillState:
        """Read the state of a checkpoint.

        Raises:
            ValueError: There is none, or it cannot be read.
        """
        path = Path(folder) / STATE_NAME
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ValueError(
                f"{folder} has no {STATE_NAME}: it was not written by ProgressiveDistillTrainer, or only in part. "
                "Resume from another checkpoint, or start from its weights as a new student"
            ) from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); resume from another checkpoint") from error

    def check_same_run(
        self, curriculum: dict[str, Any], revisions: list[dict[str, Any]], *, folder: str | Path
    ) -> None:
        """Refuse to resume with another curriculum or another teacher.

        Raises:
            ValueError: The curriculum differs, or a revision now resolves to another commit; both are named.
        """
        # The file has lists where a caller may have written tuples.
        if json_ready(self.curriculum) != json_ready(curriculum):
            raise ValueError(
                f"{folder} was trained with the curriculum {self.curriculum}, this run has {curriculum}; resume with "
                "the same curriculum or start a new run in another output_dir"
            )
        if len(self.revisions) != len(revisions):
            names, names_now = ([revision["name"] for revision in side] for side in (self.revisions, revisions))
            raise ValueError(f"{folder} was trained with the teacher revisions {names}, now they are {names_now}")
        for before, now in zip(self.revisions, revisions, strict=True):
            if before["commit"] != now["commit"]:
                raise ValueError(
                    f"teacher revision {before['name']!r} of {before['source']} has moved: {folder} was trained with "
                    f"{before['commit']}, it now resolves to {now['commit']}. Pin the old commit to resume, or start "
                    "a new run"
                )


def resume_folder(wanted: str | bool | None, output_dir: str | Path) -> Path | None:
    """Return the checkpoint to resume from, or None to start anew.

    Args:
        wanted: A checkpoint folder, True for the newest whole one in `output_dir`, None or False for none.
        output_dir: The run's folder.

    Raises:
        ValueError: The wanted checkpoint is half-written, or there is no whole one.
    """
    if not wanted:
        return None
    if wanted is True:
        folder = find_last_whole_checkpoint(output_dir)
        if folder is None:
            raise ValueError(
                f"no whole checkpoint in {output_dir} to resume from; train without resume_from_checkpoint to start "
                "anew"
            )
        return folder
    problem = trainer_checkpoint_problem(wanted)
    if problem is not None:
        raise ValueError(f"cannot resume from {wanted}: {problem}")
    return Path(wanted)

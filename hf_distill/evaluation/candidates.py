"""The models of a run that are evaluated: those who taught, every finished student, and baselines from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_distill.evaluation.record import Role
from hf_distill.models.compatibility import check_tokenizers
from hf_distill.pipeline.faculty import ensemble_of
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.pipeline.places import at
from hf_distill.pipeline.teacher import open_model
from hf_distill.recipe.teacher_spec import ModelSpec, TeacherSpec
from hf_distill.recipe.teaching import assistant_name, member_name
from hf_distill.teachers import TeacherSequence, TeacherSource
from hf_distill.teachers.checkpoint_files import ADAPTER
from hf_distill.teachers.revisions import folder_of
from hf_distill.teachers.weight_files import content_hash, file_sha256, weight_files, weights_format


@dataclass(frozen=True)
class Candidate:
    """A model to be evaluated.

    Attributes:
        key: Which it is, within its run.
        name: For people.
        role: What it is to the run.
        commit: Pins its weights.
        folder: Where they lie.
        load: Reads them, in eval mode.
        curriculum: Label of a student's curriculum.
        seed: Of a student.
    """

    key: str
    name: str
    role: Role
    commit: str
    folder: Path
    load: Callable[[], PreTrainedModel]
    curriculum: str | None = None
    seed: int | None = None

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights on disk; of an adapter alone, which is what would be handed on, its own."""
        return sum(file.stat().st_size for file in _files(self.folder))


@dataclass(frozen=True)
class Teachers:
    """Those who taught, each at its final revision.

    Attributes:
        models: By name, in the order of training.
        reference: Whom the students are compared with: the teacher, or the ensemble; None where the run has no teacher
            of its own. Assistants, pruned copies and routes stand between it and the students.
    """

    models: dict[str, TeacherSequence]
    reference: TeacherSource | None


def teachers_of(run: FinishedRun) -> Teachers:
    """Open the teachers of a run.

    Raises:
        ValueError: One is missing, half-written, or of another head.
    """
    spec = run.recipe.teacher
    if spec is None or not (spec.is_one_model or spec.ensemble is not None):
        return Teachers({}, None)
    models = _top(run, spec)
    for place in range(1, len(spec.assistants) + 1):
        models[assistant_name(place)] = TeacherSequence(run.workspace.assistant(place))
    models = {name: _final(teacher, run) for name, teacher in models.items()}
    if spec.ensemble is None:
        return Teachers(models, models["teacher"])
    return Teachers(models, ensemble_of(spec.ensemble, list(models.values())[: len(spec.ensemble.members)]))


def candidates_of(run: FinishedRun, teachers: Teachers, baselines: Sequence[str]) -> list[Candidate]:
    """Return the models to evaluate: teachers, students in the order of the recipe, baselines.

    Args:
        run: The run.
        teachers: Who taught.
        baselines: Folders or ids of the Hub of models for the same task.

    Raises:
        ValueError: There is no finished student, or a baseline cannot be had.
    """
    cells = run.student_cells()
    if not cells:
        raise ValueError(
            f"{run.workspace.root} has no finished student to evaluate; `hf-distill run` its recipe first"
        )
    pickled = run.recipe.teacher is not None and run.recipe.teacher.allow_pickled_weights
    found = [_teacher(name, teacher, pickled=pickled) for name, teacher in teachers.models.items()]
    for cell in cells:
        folder = run.workspace.student(cell.label, cell.seed)
        name = f"{cell.label}, seed {cell.seed}"
        found.append(_student(run, name, folder, cell.label, cell.seed))
    return found + [_baseline(run, baseline) for baseline in baselines]


def _top(run: FinishedRun, spec: TeacherSpec) -> dict[str, TeacherSequence]:
    if spec.ensemble is None:
        return {"teacher": _open(spec, run.workspace.teacher)}
    places = enumerate(spec.ensemble.members, 1)
    return {member_name(place): _open(one, run.workspace.member(place)) for place, one in places}


def _open(spec: ModelSpec, folder: Path) -> TeacherSequence:
    if spec.source is None and not folder.is_dir():
        raise ValueError(f"{folder} is not there: the recipe has not trained this teacher yet; `hf-distill run` it")
    return open_model(spec, folder)


def _final(teacher: TeacherSequence, run: FinishedRun) -> TeacherSequence:
    teacher.narrow(teacher.revisions[-1:])
    teacher.attach(head=run.task.head, accelerator=None)
    return teacher


def _teacher(name: str, teacher: TeacherSequence, *, pickled: bool) -> Candidate:
    revision = teacher.revisions[-1]

    def load() -> PreTrainedModel:
        teacher.enter(0)
        model: Any = teacher.model
        return model

    shown = name if revision.name == "final" else f"{name}, {revision.name}"
    folder = folder_of(revision, allow_pickled_weights=pickled)
    return Candidate(name.replace(" ", "-"), shown, "teacher", revision.commit, folder, load)


def _student(run: FinishedRun, name: str, folder: Path, label: str, seed: int) -> Candidate:
    def load() -> PreTrainedModel:
        found: PreTrainedModel = run.load_student(folder)
        return found

    run.check_student(folder)
    key = f"students/{label}/seed-{seed}"
    return Candidate(key, name, "student", _pin(folder), folder, load, label, seed)


def _files(folder: Path) -> list[Path]:
    return weight_files(folder) if weights_format(folder) is not None else [folder / ADAPTER]


def _pin(folder: Path) -> str:
    if weights_format(folder) is not None:
        return content_hash(folder)
    return f"sha256:{file_sha256(folder / ADAPTER)}"


def _baseline(run: FinishedRun, source: str) -> Candidate:
    def load() -> PreTrainedModel:
        with at(f"baseline {source}"):
            if run.data.tokenizer is not None and model.tokenizer is not None:
                check_tokenizers(run.data.tokenizer, model.tokenizer)
            model.enter(0)
            found: Any = model.model
            run.task.check_model(found, run.data)
            return found

    with at(f"baseline {source}"):
        model = _final(TeacherSequence(source), run)
        revision = model.revisions[-1]
        folder = folder_of(revision)
    name = Path(source).name if Path(source).is_dir() else source
    return Candidate(f"baseline/{source}", name, "baseline", revision.commit, folder, load)

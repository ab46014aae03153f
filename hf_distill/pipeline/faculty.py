"""All who teach in a recipe: trained, found or made in their order, and what the record says of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hf_distill.pipeline.observer import Observer, parameters_of
from hf_distill.pipeline.places import at
from hf_distill.pipeline.teacher import open_model
from hf_distill.pipeline.trained_teacher import TrainedTeacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.teacher_spec import AssistantTraining, EnsembleSpec, ModelSpec, SelfTeacherSpec, TeacherSpec
from hf_distill.recipe.teaching import (
    TRAINED_HERE,
    assistant_name,
    assistants_teacher,
    base_text,
    kind_of,
    learning_text,
    member_name,
    model_text,
    source_text,
)
from hf_distill.tasks import Task
from hf_distill.teachers import (
    AdapterOffTeacher,
    EmaTeacher,
    EnsembleTeacher,
    LadderTeacher,
    PrunedMixTeacher,
    TeacherSequence,
    TeacherSource,
)


@dataclass
class Faculty:
    """Who teaches.

    Attributes:
        source: The teacher source of those who learn from it.
        record: What the run's record says of it.
        models: What it says of each model that has taken part, in the order of training.
    """

    source: TeacherSource
    record: dict[str, Any]
    models: list[dict[str, Any]]

    def recorded(self) -> dict[str, Any]:
        """Return the record's block of the teacher; the models are listed where it is not one model alone."""
        seconds = [model["seconds"] for model in self.models if model.get("seconds") is not None]
        found = {**self.record, "revisions": self.source.manifest()}
        found |= {"seconds": sum(seconds)} if seconds else {}
        return found if found["kind"] == "teacher" or not self.models else {**found, "models": self.models}


class Assembly:
    """Brings a recipe's teachers together.

    Args:
        spec: The recipe's teacher.
        task: Its task.
        workspace: Its folder.
        observer: Looks at each of them.
    """

    def __init__(self, spec: TeacherSpec, task: Task, workspace: Workspace, observer: Observer) -> None:
        self.spec, self.task, self.workspace, self.observer = spec, task, workspace, observer

    def faculty(self) -> Faculty:
        """Train, find or make all who teach; what is finished is kept, what is not is continued.

        Raises:
            ValueError: A teacher cannot be had, or is not the one that students or assistants here learned from.
        """
        if self.spec.self_teacher is not None:
            source = self_teacher(self.spec.self_teacher)
            return Faculty(source, {"kind": kind_of(self.spec), "source": source.revisions[0].source}, [])
        base = made = self._one_model() if self.spec.ensemble is None else self._ensemble(self.spec.ensemble)
        rungs = [base.source]
        for place, assistant in enumerate(self.spec.assistants, 1):
            made = self._assistant(place, assistant, made)
            rungs = [made.source, *rungs] if self.spec.route is not None else []
        if self.spec.route is not None:
            made = self._ladder(rungs, made.models, top=base)
        if self.spec.assistants:
            self._pin(made.source)
        return made

    def _one_model(self) -> Faculty:
        facts = self._trained_or_found("teacher", self.spec, self.workspace.teacher, "teacher.train")
        sequence = open_model(self.spec, self.workspace.teacher)
        source = with_pruned(self.spec, sequence)
        if not self.spec.assistants:
            self._pin(source)
        seen = self.observer.look(source, self.workspace.root)
        model = {"name": "teacher", "parameters": seen["parameters"], **facts, "revisions": sequence.manifest()}
        if source is not sequence:
            return Faculty(source, {**seen, "kind": "pruned_mix", "source": base_text(self.spec)}, [model])
        return Faculty(source, {**seen, **facts, "kind": "teacher"}, [{**seen, **model}])

    def _ensemble(self, spec: EnsembleSpec) -> Faculty:
        members, models = [], []
        for place, one in enumerate(spec.members, 1):
            name, folder = member_name(place), self.workspace.member(place)
            facts = self._trained_or_found(name, one, folder, f"teacher.ensemble.members[{place - 1}].train")
            member = open_model(one, folder)
            member.narrow(member.revisions[-1:])
            seen = self.observer.look(member, folder)
            models.append({"name": name, **seen, **facts, "revisions": member.manifest()})
            members.append(member)
        source = ensemble_of(spec, members)
        if not self.spec.assistants:
            self._pin(source)
        seen = self.observer.look(source, self.workspace.root)
        return Faculty(source, {**seen, "kind": "ensemble", "source": source.revisions[0].source}, models)

    def _assistant(self, place: int, spec: AssistantTraining, before: Faculty) -> Faculty:
        facts = assistant_of(place, spec, self.workspace).train(
            self.task,
            cache_dir=self.workspace.cache,
            teacher=before.source if spec.curriculum["name"] != "labels" else None,
            chosen=before.record.get("chosen"),
        )
        learned_from = learning_text(spec.curriculum, assistants_teacher(self.spec, place))
        facts |= {"source": TRAINED_HERE, "model": model_text(spec.model), "learned_from": learned_from}
        source = TeacherSequence(self.workspace.assistant(place))
        seen = self.observer.look(source, self.workspace.assistant(place))
        model = {"name": assistant_name(place), **seen, **facts, "revisions": source.manifest()}
        record = {**seen, **facts, "kind": "assistant", "source": f"{assistant_name(place)}: {facts['model']}"}
        return Faculty(source, record, [*before.models, model])

    def _ladder(self, rungs: list[TeacherSource], models: list[dict[str, Any]], *, top: Faculty) -> Faculty:
        source = ladder_of(self.spec, rungs)
        with at("teacher.assistants"):
            self.observer.attach(source)
        record = {
            "kind": "ladder",
            "source": source.revisions[0].source,
            "parameters": parameters_of(source),
            # The ladder has no metric of its own: whom an example hears depends on its label.
            "final_metrics": top.record["final_metrics"],
        }
        return Faculty(source, record, models)

    def _trained_or_found(self, name: str, spec: ModelSpec, folder: Path, path: str) -> dict[str, Any]:
        found = {"source": source_text(spec)}
        if spec.train is None:
            return found
        trained = TrainedTeacher(name=name, training=spec.train, folder=folder, path=path)
        found |= {"model": model_text(spec.train.model), "learned_from": "labels"}
        return {**found, **trained.train(self.task, cache_dir=self.workspace.cache)}

    def _pin(self, source: TeacherSource) -> None:
        self.workspace.pin_teacher(source.manifest(), write=PartialState().is_main_process)


def self_teacher(spec: SelfTeacherSpec) -> TeacherSource:
    """Return the source that is made of the student.

    Raises:
        ValueError: A setting out of range.
    """
    if spec.name == "adapter_off":
        return AdapterOffTeacher()
    with at("teacher.self_teacher"):
        return EmaTeacher(
            0.999 if spec.decay is None else spec.decay, warmup=True if spec.warmup is None else spec.warmup
        )


def assistant_of(place: int, spec: AssistantTraining, workspace: Workspace) -> TrainedTeacher:
    """Return the training of an assistant, counted from 1."""
    return TrainedTeacher(
        name=assistant_name(place),
        training=spec,
        folder=workspace.assistant(place),
        path=f"teacher.assistants[{place - 1}]",
        curriculum=spec.curriculum,
    )


def with_pruned(spec: TeacherSpec, teacher: TeacherSource) -> TeacherSource:
    """Return the teacher, mixed with its pruned copy where the recipe says so.

    Raises:
        ValueError: A share out of range.
    """
    if spec.pruned is None:
        return teacher
    with at("teacher.pruned"):
        return PrunedMixTeacher(teacher, **asdict(spec.pruned))


def ensemble_of(spec: EnsembleSpec, members: list[Any]) -> EnsembleTeacher:
    """Return the members as one teacher.

    Raises:
        ValueError: The weights are not above 0.
    """
    with at("teacher.ensemble"):
        return EnsembleTeacher(members, weights=spec.weights, average=spec.average)


def ladder_of(spec: TeacherSpec, rungs: list[Any]) -> LadderTeacher:
    """Return the ladder of a recipe's assistants and teacher, smallest first."""
    with at("teacher.route"):
        return LadderTeacher(rungs, router=spec.route)

"""`hf-distill evaluate`: quality, fidelity and cost of every model of a run, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from tqdm.auto import tqdm

from hf_distill.evaluation.candidates import Candidate, Teachers, candidates_of, teachers_of
from hf_distill.evaluation.cost import parameters_of, shape_of, timing_environment, timings_of
from hf_distill.evaluation.harness import check_harness, harness_scores
from hf_distill.evaluation.quality import Quality, placed, quality_of, trains_no_more
from hf_distill.evaluation.record import Evaluation, EvaluationSettings, ModelResult, Timing
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.run_record import FILE_NAME as RECORD_FILE
from hf_distill.run_record import RunRecord
from hf_distill.teachers import EnsembleTeacher, TeacherSource
from hf_distill.versions import package_versions


def evaluate_run(
    run: FinishedRun,
    settings: EvaluationSettings | None = None,
    *,
    baselines: Sequence[str] = (),
    lm_eval: Sequence[str] = (),
    limit: int | None = None,
) -> Evaluation:
    """Evaluate teachers, finished students and baselines of a run, and keep what was found in its folder.

    Called again it measures only what is new: a model whose weights, data, reference and versions are those of before
    keeps its numbers. Timings are made together, one model right after the other, or not at all.

    Args:
        run: The run.
        settings: How models are timed.
        baselines: Folders or ids of the Hub of further models for the same task and tokenizer.
        lm_eval: Tasks of the package lm-eval to ask causal language models.
        limit: Examples of each of them.

    Raises:
        ValueError: There is no finished student, a model does not fit the run's data, or several processes ask.
    """
    if PartialState().num_processes > 1:
        raise ValueError("evaluate measures how long one process takes; start it without `accelerate launch`")
    harness = {"version": check_harness(lm_eval, head=run.task.head), "limit": limit} if lm_eval else {}
    evaluator = _Evaluator(run, settings or EvaluationSettings(), baselines)
    found = evaluator.evaluate()
    return evaluator.ask_harness(lm_eval, harness) if lm_eval else found


class _Evaluator:
    """One evaluation, with what is kept of the one before."""

    def __init__(self, run: FinishedRun, settings: EvaluationSettings, baselines: Sequence[str]) -> None:
        self.run, self.settings = run, settings
        self.root: Path = run.workspace.root
        self.teachers: Teachers = teachers_of(run)
        self.candidates = candidates_of(run, self.teachers, baselines)
        reference, versions = self.teachers.reference, package_versions()
        self.kept = kept = Evaluation.load(self.root)
        self.found = Evaluation(
            run=run.recipe.name,
            task={
                "name": run.recipe.task["name"],
                "head": run.task.head,
                "metric": run.task.metric,
                "greater_is_better": run.task.greater_is_better,
            },
            data=run.data.fingerprint,
            reference={} if reference is None else _identity(reference),
            settings=settings,
            harness=kept.harness if kept is not None else {},
            environment={
                **timing_environment(run.device),
                **{name: versions[name] for name in ("hf-distill", "transformers")},
            },
        )

    def evaluate(self) -> Evaluation:
        kept_models = {} if self.kept is None or not self._same_measures(self.kept) else self.kept.models
        known = {(model.key, model.commit): model for model in kept_models}
        for candidate in tqdm(self.candidates, desc="Evaluating", unit="model"):
            model = known.get((candidate.key, candidate.commit))
            self.found.models.append(self._measure(candidate) if model is None else model)
            self.found.timings = self._kept_timings()
            self.found.save(self.root)
        shapes = {model.shape for model in self.found.models if model.shape is not None}
        if shapes - {timing.shape for timing in self.found.timings}:
            self.found.timings = self._time()
        self.found.models += self._together()
        self.found.save(self.root)
        return self.found

    def ask_harness(self, tasks: Sequence[str], harness: dict[str, Any]) -> Evaluation:
        """Ask every model the tasks that it was not asked in this way before."""
        tokenizer = self.run.data.tokenizer
        assert tokenizer is not None
        by_key = {candidate.key: candidate for candidate in self.candidates}
        if self.found.harness != harness:
            self.found.harness = harness
            for result in self.found.models:
                result.lm_eval = {}
        for result in tqdm(self.found.models, desc="Asking lm-eval", unit="model"):
            open_tasks = [task for task in tasks if task not in result.lm_eval]
            if open_tasks and result.key in by_key:
                model = placed(by_key[result.key].load(), self.run.device)
                size = max(self.settings.batch_sizes)
                scores = harness_scores(model, tokenizer, open_tasks, batch_size=size, limit=harness["limit"])
                result.lm_eval = {**result.lm_eval, **scores}
                self.found.save(self.root)
        return self.found

    def _together(self) -> list[ModelResult]:
        """Return the ensemble that taught, as far as it is known without asking it once more."""
        ensemble = self.teachers.reference
        if not isinstance(ensemble, EnsembleTeacher):
            return []
        members = [model for model in self.found.models if model.key.startswith("member-")]
        return [
            ModelResult(
                key="ensemble",
                name=f"ensemble of {len(members)}",
                role="teacher",
                commit=ensemble.revisions[-1].commit,
                parameters=sum(member.parameters for member in members),
                weight_bytes=sum(member.weight_bytes for member in members),
                metrics=self._recorded_metrics(),
            )
        ]

    def _recorded_metrics(self) -> dict[str, float]:
        """Return the teacher's final metrics as the run recorded them."""
        if not (self.root / RECORD_FILE).is_file():
            return {}
        return RunRecord.load(self.root).teacher.get("final_metrics") or {}

    def _same_measures(self, kept: Evaluation) -> bool:
        versions = ("torch", "hf-distill", "transformers")
        same = all(kept.environment.get(name) == self.found.environment[name] for name in versions)
        return same and (kept.data, kept.reference, kept.task) == (
            self.found.data,
            self.found.reference,
            self.found.task,
        )

    def _kept_timings(self) -> list[Timing]:
        kept = self.kept
        same = kept is not None and (kept.settings, kept.environment) == (self.settings, self.found.environment)
        return list(kept.timings) if kept is not None and same else []

    def _measure(self, candidate: Candidate) -> ModelResult:
        model = placed(candidate.load(), self.run.device)
        if trains_no_more(model):
            quality = Quality(self._recorded_metrics(), None, None)
        else:
            quality = quality_of(self.run, model, reference=self._reference(candidate))
        return ModelResult(
            key=candidate.key,
            name=candidate.name,
            role=candidate.role,
            curriculum=candidate.curriculum,
            seed=candidate.seed,
            commit=candidate.commit,
            shape=shape_of(model),
            parameters=parameters_of(model),
            weight_bytes=candidate.weight_bytes,
            metrics=quality.metrics,
            fidelity=quality.fidelity,
            calibration=quality.calibration,
        )

    def _reference(self, candidate: Candidate) -> TeacherSource | None:
        reference = self.teachers.reference
        itself = reference is not None and reference.revisions[-1].commit == candidate.commit
        return None if itself else reference

    def _time(self) -> list[Timing]:
        """Time one model of each shape."""
        (batch, *_) = self.run.batches("validation", examples=max(self.settings.batch_sizes))
        by_key = {candidate.key: candidate for candidate in self.candidates}
        first = {model.shape: model for model in reversed(self.found.models)}
        timings: list[Timing] = []
        for shape, result in tqdm(list(first.items())[::-1], desc="Timing", unit="model"):
            model: Any = placed(by_key[result.key].load(), self.run.device)
            timings += timings_of(model, batch, self.settings, shape=str(shape), name=result.name)
        return timings


def _identity(reference: TeacherSource) -> dict[str, str]:
    revision = reference.revisions[-1]
    return {"name": revision.name, "commit": revision.commit}

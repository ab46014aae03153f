"""A run's held-out metric of any model, measured as the run itself does: by the Trainer and the task's metrics."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import Subset
from transformers import PreTrainedModel

from hf_distill.models.label_maps import in_order, label_names, order_of
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.pipeline.training_arguments import OF_A_LAUNCH, training_arguments
from hf_distill.teachers import TeacherSource
from hf_distill.trainer import ProgressiveDistillTrainer


@contextmanager
def held_out_metric(
    run: FinishedRun, model: PreTrainedModel, name: str, *, examples: int | None = None
) -> Iterator[Callable[[], float]]:
    """Hand out what measures a model as it is at that moment, whatever has been done to its weights.

    Args:
        run: Its run.
        model: The model, on its device.
        name: Key of the task's metrics.
        examples: Only so many held-out examples; None: all.

    Raises:
        ValueError: The metric is not of so many examples.
    """
    check_examples(run, name, examples)
    chosen: Any = run.data.validation
    if examples is not None:
        chosen = Subset(chosen, range(min(examples, len(chosen))))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = evaluating_trainer(run, model, None, Path(scratch))
        with classes_in_order(run, model):
            yield lambda: float((trainer.predict(chosen, metric_key_prefix="eval").metrics or {})[f"eval_{name}"])


def check_examples(run: FinishedRun, name: str, examples: int | None) -> None:
    """Refuse a number of held-out examples that a metric is not of.

    Raises:
        ValueError: There are none, or the task's metrics are of all held-out examples together.
    """
    chosen: Any = run.data.validation
    if examples is not None and examples < 1:
        raise ValueError(f"examples: expected at least 1, got {examples}")
    if examples is not None and examples < len(chosen) and run.task.head == "question_answering":
        raise ValueError(
            f"examples: {name} of answers needs all {len(chosen)} held-out windows, as a question may have several; "
            f"{examples} were asked for. Leave it out"
        )


@contextmanager
def classes_in_order(run: FinishedRun, model: PreTrainedModel) -> Iterator[None]:
    """Let a teacher whose classes have another order than the data's answer in theirs."""
    names = run.data.description.get("labels")
    order = None if names is None else order_of(names, label_names(model.config))
    if order is None:
        yield
        return

    def reorder(module: Any, inputs: Any, output: Any) -> Any:
        output["logits"] = in_order(output["logits"], order)
        return output

    hook = model.register_forward_hook(reorder)
    try:
        yield
    finally:
        hook.remove()


def evaluating_trainer(
    run: FinishedRun, model: PreTrainedModel, reference: TeacherSource | None, scratch: Path
) -> ProgressiveDistillTrainer:
    """Return a trainer with the run's data and arguments that evaluates a model and trains nothing.

    Args:
        run: Its run.
        model: The model.
        reference: Its teacher, attached; or None.
        scratch: An empty folder.

    Raises:
        ValueError: Model, reference and data do not fit together.
    """
    training = {key: value for key, value in run.recipe.training.items() if key not in OF_A_LAUNCH}
    training |= {"disable_tqdm": True, "report_to": "none", "eval_strategy": "no", "load_best_model_at_end": False}
    arguments = training_arguments(
        training,
        task=run.task,
        output_dir=scratch,
        curriculum={"name": "labels" if reference is None else "one_shot"},
        seed=run.recipe.seeds[0],
        path="training",
    )
    return run.task.trainer_class()(model=model, teacher=reference, args=arguments, **run.data.for_trainer())

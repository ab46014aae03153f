"""Every recipe is one that can be run: it reads, its parts build, and with tiny settings it runs from end to end."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from source_cases import PEFT_WARNS

from hf_distill.curricula import CURRICULA
from hf_distill.pipeline.cells import cells_of, task_of
from hf_distill.pipeline.run import run_recipe
from hf_distill.pipeline.training_arguments import training_arguments
from hf_distill.recipe.recipe import Recipe, available_recipes
from hf_distill.recipe.student_checks import adapter_export
from hf_distill.recipe.teacher_spec import TeacherTraining
from hf_distill.tasks import TASKS

# Where recipes look for the real data sets, as seen from a checkout.
SHARED = "../shared/data/"
# Several micro-batches and workers make small steps slow.
UNDIVIDED = {"gradient_accumulation_steps": 1, "dataloader_num_workers": 0}
NAMES = [info.name for info in available_recipes()]


def on_the_hub(recipe: Recipe) -> list[str]:
    """What a recipe takes from the Hub, which tests cannot reach."""
    teacher = recipe.teacher
    models = [recipe.student.model, *(train.model for _, train in trained_before(recipe))]
    found = [model["pretrained"] for model in models if "pretrained" in model]
    found = [source for source in found if not source.startswith("runs/")]
    for _, task in tasks_of(recipe):
        data = task.get("data")
        sources = data if isinstance(data, list) else [data]
        found += [source["hub"] for source in sources if isinstance(source, dict) and "hub" in source]
    source = teacher.source if teacher is not None else None
    return found + ([str(source)] if source is not None and not str(source).startswith("runs/") else [])


def tasks_of(recipe: Recipe) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tasks of a recipe, each with its key path."""
    yield "task", recipe.task
    for place, block in enumerate(recipe.finetune):
        yield f"finetune[{place}].task", block.task


def shared_paths(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What a recipe reads of the real data sets beside the checkout: key path and place."""
    for path, task in tasks_of(recipe):
        data = task.get("data")
        if isinstance(data, dict) and str(data.get("path", "")).startswith(SHARED):
            yield f"{path}.data.path", str(data["path"]).removeprefix(SHARED)


def trained_before(recipe: Recipe) -> Iterator[tuple[str, TeacherTraining]]:
    """What a recipe trains before its students, each with its key path."""
    teacher = recipe.teacher
    if teacher is None:
        return
    if teacher.train is not None:
        yield "teacher.train", teacher.train
    for place, member in enumerate(teacher.ensemble.members if teacher.ensemble is not None else []):
        if member.train is not None:
            yield f"teacher.ensemble.members[{place}].train", member.train
    for place, assistant in enumerate(teacher.assistants):
        yield f"teacher.assistants[{place}]", assistant


def tiny(recipe: Recipe) -> list[str]:
    """The overrides that make a recipe short: one seed, 24 steps, a teacher of 40 with checkpoints at 20 and 40."""
    grammar = recipe.task["name"] in ("pcfg", "pcfg_causal")
    labelled = recipe.task["name"] in ("glue", "text_classification", "token_classification", "question_answering")
    tokens = recipe.task["name"] == "parity" and recipe.task.get("inputs") == "tokens"
    text = recipe.task["name"] in ("masked_lm", "causal_lm") or grammar or labelled  # which takes seconds to evaluate

    def settings(path: str, training: dict[str, Any], steps: int) -> Iterator[tuple[str, Any]]:
        wanted = {"max_steps": steps, "eval_steps": steps if text else steps // 2, "logging_steps": steps // 2}
        # A rate that a trained teacher makes stable may be too high for what 40 steps leave.
        wanted |= {"save_steps": steps // 2, "learning_rate": min(training["learning_rate"], 0.05)}
        wanted |= {"per_device_train_batch_size": 8} if text or tokens else {}
        wanted |= {key: value for key, value in UNDIVIDED.items() if key in training}
        yield from ((f"{path}.{key}", value) for key, value in wanted.items())
        if training.get("warmup_steps", 0) > 2:
            yield f"{path}.warmup_steps", 2

    changes = dict(settings("training", recipe.training, 24))
    changes |= {"seeds": recipe.seeds[:1], "report.enabled": False}
    changes |= {"task.root": 10, "task.validation_examples": 32} if grammar else {}
    if labelled:
        changes |= {"task.train_examples": 200, "task.validation_examples": 50, "task.further_splits": []}
        changes["report.analyses"] = []  # of 16 models; parity_gpt2's are made
    if tokens:
        changes["task.validation_examples"] = 64  # which take GPT-2s minutes
    for path, train in trained_before(recipe):
        if train.training["max_steps"] > 40:
            changes |= dict(settings(f"{path}.training", train.training, 40))
            changes[f"{path}.stop_at"] = None
    for place, block in enumerate(recipe.finetune):
        path = f"finetune[{place}]"
        changes |= dict(settings(f"{path}.training", block.training, 4))
        changes |= {f"{path}.task.train_examples": 64, f"{path}.task.validation_examples": 32}
    if recipe.teacher is not None and recipe.teacher.route is not None:
        changes["teacher.route.examples"] = 50
    for label, curriculum in recipe.curricula().items():
        path = f"compare.{label}" if recipe.compare is not None else "curriculum"
        shorter = {"steps": 6, "interval": 8, "max_stage_steps": 8, "revision": 20, "revisions": [20]}
        changes |= {f"{path}.{key}": value for key, value in shorter.items() if key in curriculum}
        changes |= {f"{path}.training.max_steps": 24} if "max_steps" in curriculum.get("training", {}) else {}
        if curriculum["name"] == "two_shot":
            changes[f"{path}.revision"] = 20
    if recipe.task["name"] in ("translation", "summarization"):  # whose evaluations generate
        changes |= {"task.train_examples": 256, "task.validation_examples": 16, "task.further_splits": []}
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def run_tiny(name: str, shared: Path) -> tuple[Recipe, Any]:
    """Run a recipe with tiny settings in the current folder, after the one whose models are its teacher or base."""
    recipe = Recipe.load(name)
    sources = [recipe.teacher.source if recipe.teacher is not None else None, recipe.student.model.get("pretrained")]
    for source in [source for source in sources if isinstance(source, str)]:
        for other in NAMES:
            if source.startswith(f"{Recipe.load(other).output_dir}/") and not Path(source).exists():
                run_tiny(other, shared)
    places = [f"{key}={json.dumps(str(shared / place))}" for key, place in shared_paths(recipe)]
    short = Recipe.load(name, overrides=[*tiny(recipe), *places])
    return short, run_recipe(short)


def test_there_are_recipes():
    assert "parity/quickstart" in NAMES


def test_no_two_recipes_share_a_name_or_a_folder():
    recipes = [Recipe.load(name) for name in NAMES]
    for values in ([recipe.name for recipe in recipes], [recipe.output_dir for recipe in recipes]):
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_reads_and_its_parts_build(name, tmp_path):
    recipe = Recipe.load(name)
    assert recipe.output_dir.startswith("runs/")
    assert recipe.description
    assert len(recipe.description) <= 120, "one line of `hf-distill recipes`"
    assert recipe.paper
    task = task_of(recipe)
    for cell in cells_of(recipe):
        CURRICULA.build(cell.curriculum, path=cell.label)
        training_arguments(
            cell.training, task=task, output_dir=tmp_path, curriculum=cell.curriculum, seed=cell.seed, path="training"
        )
    for place, block in enumerate(recipe.finetune):
        training_arguments(
            block.training,
            task=TASKS.build(block.task, path="task"),
            output_dir=tmp_path,
            curriculum={"name": "labels"},
            seed=0,
            path=f"finetune[{place}]",
        )
    for path, train in trained_before(recipe):
        training_arguments(
            train.training, task=task, output_dir=tmp_path, curriculum={"name": "labels"}, seed=train.seed, path=path
        )
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@PEFT_WARNS
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if not on_the_hub(Recipe.load(name))])
def test_a_recipe_runs_from_end_to_end(name, tmp_path, monkeypatch, request):
    # Asked for where a recipe needs it only: without it, this test is skipped.
    needs = any(shared_paths(Recipe.load(name)))
    shared = request.getfixturevalue("shared_data") if needs else tmp_path
    monkeypatch.chdir(tmp_path)
    recipe, record = run_tiny(name, shared)
    assert len(record.runs) == len(recipe.curricula())
    assert [block.name for block in record.downstream] == [block.name for block in recipe.finetune]
    for block in record.downstream:
        assert all(math.isfinite(run.final_metrics[block.task["metric"]]) for run in block.runs)
    assert record.finished is not None
    for run in record.runs:
        assert run.final_metrics
        assert all(value is not None and math.isfinite(value) for value in run.final_metrics.values())
        weights = "adapter_model" if adapter_export(recipe.student) == "adapter" else "model"
        assert (tmp_path / recipe.output_dir / run.folder / f"{weights}.safetensors").is_file()
        assert (tmp_path / recipe.output_dir / run.folder / "README.md").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"], "everything lies under output_dir"

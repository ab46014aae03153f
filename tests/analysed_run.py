"""The folder of a finished run, written without training: random models where a run leaves trained ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import StudentRun
from hf_distill.strict_dataclass import to_mapping
from hf_distill.tasks import TASKS

SENTENCE = "the cat sat on the mat while a dog ran over the hill and the bird sang in the old tree near the river "


def write_run(
    folder: Path,
    task: dict[str, Any],
    model: dict[str, Any],
    *,
    steps: tuple[int, ...] = (10, 20, 30),
    students: tuple[str, ...] = ("labels", "one_shot"),
    seeds: tuple[int, ...] = (0, 1),
) -> FinishedRun:
    """Write recipe.yaml, a teacher's checkpoints and finished students; return the run, opened."""
    recipe = Recipe.from_dict(
        {
            "output_dir": str(folder),
            "task": task,
            "teacher": {"train": {"model": model}},
            "student": {"model": model},
            "compare": {name: {"name": name} for name in ("labels", "one_shot")},
            "training": {"per_device_eval_batch_size": 16, "per_device_train_batch_size": 4, "use_cpu": True},
            "seeds": list(seeds),
        }
    )
    workspace = Workspace(folder)
    workspace.claim(recipe, write=True)
    built = TASKS.build(task, path="task")
    data = built.prepare(seed=0, cache_dir=workspace.cache)
    places = [workspace.teacher / f"checkpoint-{step}" for step in steps]
    places += [workspace.student(name, seed) for name in students for seed in seeds]
    for number, place in enumerate(places):
        torch.manual_seed(number)
        built.build_model(model, data).save_pretrained(place)
        if data.processing_class is not None:
            data.processing_class.save_pretrained(place)
    for name in students:
        for seed in seeds:
            (workspace.student(name, seed) / "student_run.json").write_text(json.dumps(_student_run(name, seed)))
    return FinishedRun(recipe)


def parity_run(folder: Path, **settings: Any) -> FinishedRun:
    """Write a run of sparse parity with small networks."""
    task = {"name": "parity", "d": 8, "k": 3, "validation_examples": 40, "train_examples": 64}
    return write_run(folder, task, {"architecture": "parity_mlp", "config": {"width": 6}}, **settings)


def text_run(folder: Path, task: str, **settings: Any) -> FinishedRun:
    """Write a run of masked or causal language modelling on a few sentences."""
    documents = folder.parent / "documents"
    documents.mkdir(exist_ok=True)
    for number in range(12):
        (documents / f"{number}.txt").write_text(SENTENCE[number:] * 3)
    spec = {
        "name": task,
        "data": {"path": str(documents)},
        "tokenizer": {"train": {"kind": "wordpiece" if task == "masked_lm" else "bpe", "vocab_size": 300}},
        "max_length": 16,
        "validation_fraction": 0.5,
    }
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16}
    model = (
        {"architecture": "bert", "config": {**sizes, "intermediate_size": 16, "initializer_range": 0.5}}
        if task == "masked_lm"
        else {"architecture": "gpt2", "config": {**sizes, "initializer_range": 0.5}}
    )
    return write_run(folder, spec, model, **settings)


def _student_run(name: str, seed: int) -> dict[str, Any]:
    run = StudentRun(
        curriculum=name,
        seed=seed,
        folder=f"students/{name}/seed-{seed}",
        loss_formula="",
        stages=[],
        history=[],
        training_log=[],
        final_metrics={},
    )
    return to_mapping(run)

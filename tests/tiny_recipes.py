"""Recipes small enough for tests: parity of 2 out of 10 signs, which teacher and students learn in some 40 steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_distill.recipe.recipe import Recipe

SGD: dict[str, Any] = {
    "use_cpu": True,
    "optim": "sgd",
    "learning_rate": 0.5,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "per_device_train_batch_size": 50,
    "per_device_eval_batch_size": 250,
    "eval_strategy": "steps",
    "eval_steps": 20,
    "logging_steps": 20,
}


def parity_mapping(output_dir: Path, **changes: Any) -> dict[str, Any]:
    """Return the plain data of a recipe: labels, one-shot at temperature 0 and two-shot from a teacher trained first.

    Args:
        output_dir: Of the run.
        **changes: Top-level keys to replace; None takes one away.
    """
    mapping: dict[str, Any] = {
        "name": "tiny",
        "output_dir": str(output_dir),
        "task": {"name": "parity", "d": 10, "k": 2, "validation_examples": 250, "train_examples": 10_000},
        "teacher": {
            "train": {
                "model": {"architecture": "parity_mlp", "config": {"width": 64}},
                "training": {**SGD, "max_steps": 160, "save_steps": 20, "save_only_model": True},
            }
        },
        "student": {"model": {"architecture": "parity_mlp", "config": {"width": 32}}},
        "level": 0.99,
        "compare": {
            "labels": {"name": "labels"},
            "cold": {"name": "one_shot", "temperature": 0.0},
            "two_shot": {"name": "two_shot", "revision": "auto", "steps": 20},
        },
        "training": {**SGD, "max_steps": 80, "save_steps": 40},
        "report": {"enabled": False},
    }
    merged = {**mapping, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def parity_recipe(output_dir: Path, **changes: Any) -> Recipe:
    """Return `parity_mapping` as a recipe."""
    return Recipe.from_dict(parity_mapping(output_dir, **changes))


def untaught(output_dir: Path, **changes: Any) -> Recipe:
    """Return a recipe without a teacher: one student, labels only."""
    fields: dict[str, Any] = {"teacher": None, "compare": None, "curriculum": {"name": "labels"}}
    return parity_recipe(output_dir, **{**fields, **changes})


def write_text(folder: Path, *, documents: int = 60) -> Path:
    """Write documents of words that follow one another regularly, one a file."""
    folder.mkdir(parents=True, exist_ok=True)
    sentence = "the small student reads what its teacher once said and learns a little faster than from labels"
    words = sentence.split()
    for number in range(documents):
        text = " ".join(words[(number + step * (1 + number % 3)) % len(words)] for step in range(60))
        (folder / f"{number:03}.txt").write_text(f"{text}.\n", encoding="utf-8")
    return folder


def text_recipe(output_dir: Path, text: Path, task: str, **changes: Any) -> Recipe:
    """Return a recipe of `masked_lm` (BERT) or `causal_lm` (GPT-2) on a folder of text, with a two-shot student.

    Args:
        output_dir: Of the run.
        text: Folder of .txt files.
        task: Name of the task.
        **changes: Top-level keys to replace; None takes one away.
    """
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    gpt2 = {"n_embd": 16, "n_layer": 1, "n_head": 2}
    model = (
        {"architecture": "bert", "config": bert} if task == "masked_lm" else {"architecture": "gpt2", "config": gpt2}
    )
    kind = "wordpiece" if task == "masked_lm" else "bpe"
    training = {**SGD, "optim": "adamw_torch", "learning_rate": 1e-2, "per_device_train_batch_size": 8}
    training |= {"max_steps": 12, "eval_steps": 6, "save_steps": 4}
    return parity_recipe(
        output_dir,
        **{
            "task": {
                "name": task,
                "data": {"path": str(text)},
                "tokenizer": {"train": {"kind": kind, "vocab_size": 320}},
                "max_length": 16,
                "validation_fraction": 0.2,
            },
            "teacher": {"train": {"model": model, "training": {**training, "save_only_model": True}}},
            "student": {"model": model},
            "level": None,
            "compare": {"two_shot": {"name": "two_shot", "revision": 4, "steps": 6}},
            "training": training,
            **changes,
        },
    )

"""Run records for tests of the report and the model card: the contract's fields, filled with made-up training."""

from __future__ import annotations

import math
import re
from typing import Any

from huggingface_hub import ModelCard

from hf_distill.run_record import RunRecord, StageRecord, StudentRun

COMMITS = {"step-3200": "a" * 40, "step-5000": "b" * 40}
LEVEL = 0.99


def sample_record(**changes: Any) -> RunRecord:
    """Return a comparison of labels, one-shot and two-shot over three seeds against a teacher on the Hub."""
    fields: dict[str, Any] = {
        "name": "parity-quickstart",
        "recipe": {
            "name": "parity-quickstart",
            "description": "Sparse parity, width 32 ← 1000: labels, one-shot and two-shot side by side",
            "output_dir": "runs/parity-quickstart",
            "task": {"name": "parity", "dimensions": 50, "degree": 4},
            "teacher": {"source": "acme/parity-teacher@step-*"},
            "student": {"model": {"architecture": "parity_mlp", "config": {"width": 32}}},
            "compare": {
                "labels": {"name": "labels"},
                "one_shot": {"name": "one_shot"},
                "two_shot": {"name": "two_shot"},
            },
            "training": {"max_steps": 1200, "learning_rate": 0.5},
            "seeds": [0, 1, 2],
        },
        "command": ["/home/someone/venv/bin/hf-distill", "run", "/home/someone/recipes/parity/quickstart.yaml"],
        "versions": {"python": "3.11.2", "hf-distill": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "environment": {"platform": "Linux-x86_64", "device": "cpu", "processes": 1},
        "started": "2026-11-21T10:00:00+00:00",
        "finished": "2026-11-21T10:02:05+00:00",
        "task": {
            "name": "parity",
            "head": "classification",
            "metric": "accuracy",
            "greater_is_better": True,
            "level": LEVEL,
            "chance": 0.5,
            "description": {
                "datasets": [],
                "source": "sparse parity, d = 50, k = 4, generated",
                "preprocessing": "first 4 coordinates as support; fresh examples in every training step",
                "train_rows": 60000,
                "validation_rows": 4000,
            },
        },
        "teacher": {
            "source": "acme/parity-teacher@step-*",
            "parameters": 53002,
            "revisions": [
                {
                    "name": name,
                    "step": int(name[5:]),
                    "source": "acme/parity-teacher",
                    "revision": name,
                    "commit": commit,
                }
                for name, commit in COMMITS.items()
            ],
            "scores": teacher_scores(),
            "final_metrics": {"accuracy": 0.9985, "loss": 0.011},
            "chosen": "step-3200",
            "reason": "step 3200 (loss 0.352) is nearest to the midpoint 0.352 of the sharp drop",
            "seconds": 14.2,
        },
        "student": {"parameters": 1698, "origin": {"architecture": "parity_mlp", "config": {"width": 32}}},
        "runs": [
            *(student("labels", seed) for seed in range(3)),
            *(student("one_shot", seed, revisions=["step-5000"]) for seed in range(3)),
            *(student("two_shot", seed, revisions=["step-3200", "step-5000"]) for seed in range(3)),
        ],
    }
    return RunRecord(**{**fields, **changes})


def labels_only_record() -> RunRecord:
    """Return one student trained on labels, without teacher, level or costs."""
    record = sample_record(
        teacher={
            "source": None,
            "parameters": None,
            "revisions": [],
            "scores": [],
            "final_metrics": {},
            "chosen": None,
        },
        runs=[student("labels", 0)],
    )
    record.task["level"] = None
    record.task.pop("chance")
    record.recipe.pop("teacher")
    record.runs[0].costs = {}
    record.runs[0].training_log = []
    return record


def teacher_scores() -> list[dict[str, Any]]:
    """Return the scores of a teacher that learns between steps 2800 and 3600."""
    scores = []
    for step in range(200, 5001, 200):
        learnt = 1 / (1 + math.exp((3200 - step) / 150))
        scores.append(
            {
                "step": step,
                "name": f"step-{step}",
                "accuracy": 0.5 + 0.4985 * learnt,
                "loss": 0.693 - 0.682 * learnt,
            }
        )
    return scores


def student(curriculum: str, seed: int, *, revisions: list[str] | None = None) -> StudentRun:
    """Return a run that learns around step 600 with two revisions and stays at chance otherwise."""
    revisions = revisions or []
    learns = len(revisions) > 1
    history = []
    for step in range(25, 1201, 25):
        wobble = 0.012 * math.sin(step / 31 + 2 * seed + len(curriculum))
        learnt = 1 / (1 + math.exp((480 + 60 * seed - step) / 40)) if learns else 0.0
        history.append(
            {"step": step, "accuracy": 0.5 + 0.497 * learnt + wobble * (1 - learnt), "loss": 0.70 - 0.68 * learnt}
        )
    reached = next((int(point["step"]) for point in history if point["accuracy"] >= LEVEL), None)
    return StudentRun(
        curriculum=curriculum,
        seed=seed,
        folder=f"{curriculum}/seed-{seed}",
        loss_formula=_term(revisions[-1]) if revisions else "CE(labels)",
        stages=_stages(revisions),
        history=history,
        training_log=[
            {
                "step": step,
                "loss": 0.7 * math.exp(-step / 900 * learns),
                "objective/kl" if revisions else "objective/labels": 0.6 * math.exp(-step / 900 * learns),
            }
            for step in range(50, 1201, 50)
        ],
        final_metrics={key: value for key, value in history[-1].items() if key != "step"},
        steps_to_level=reached,
        costs={
            "seconds": 3.1 + 0.2 * seed + 1.1 * len(revisions),
            "median_step_seconds": 0.0026,
            "teacher_share": 0.31 if revisions else 0.0,
            "swap_stall_seconds": 0.004 if learns else 0.0,
            "examples_per_second": 19000.0 - 1000 * seed,
            "tokens_per_second": 608000.0 - 32000 * seed,
            "peak_memory_bytes": 734003200.0,
        },
    )


def _stages(revisions: list[str]) -> list[StageRecord]:
    if not revisions:
        return [StageRecord(name="labels", start=0, end=1200, revision=None, terms=["CE(labels)"])]
    starts = [300 * index for index in range(len(revisions))]
    ends = [*starts[1:], 1200]
    return [
        StageRecord(name=f"teacher {revision}", start=start, end=end, revision=revision, terms=[_term(revision)])
        for revision, start, end in zip(revisions, starts, ends, strict=True)
    ]


def _term(revision: str) -> str:
    return f"KL(teacher {revision} ‖ student) [τ=1]"


def taught_record() -> RunRecord:
    """Return a student that learned from a ladder of a teacher, trained by the recipe, and an assistant on the Hub."""
    teacher = {"name": "checkpoint-60", "step": 60, "source": "run", "revision": None, "commit": f"sha256:{'a' * 64}"}
    assistant = {"name": "main", "step": None, "source": "org/assistant", "revision": "main", "commit": "b" * 40}
    ladder = {"name": "ladder", "step": None, "source": "ladder of 2, by loss", "revision": None}
    return sample_record(
        teacher={
            "kind": "ladder",
            "source": "ladder of 2, by loss",
            "parameters": 100_000,
            "seconds": 12.5,
            "final_metrics": {"accuracy": 0.98, "loss": 0.1},
            "revisions": [{**ladder, "commit": f"sha256:{'c' * 64}", "members": [assistant, teacher]}],
            "models": [
                {
                    "name": "teacher",
                    "model": "resnet (depths [2, 2])",
                    "source": "trained by this recipe",
                    "learned_from": "labels",
                    "parameters": 90_000,
                    "final_metrics": {"accuracy": 0.98, "loss": 0.1},
                    "seconds": 12.5,
                    "revisions": [teacher],
                },
                {
                    "name": "assistant 1",
                    "source": "org/assistant",
                    "learned_from": "the teacher, by one_shot",
                    "final_metrics": {"accuracy": 0.97},
                    "revisions": [assistant],
                },
            ],
        },
        runs=[student("one_shot", 0, revisions=["ladder"])],
    )


def assert_filled(card: ModelCard, *, method: str) -> None:
    """Check that a card has every section, one on its method by that name, and no gap where a value was missing."""
    headings = re.findall(r"^## (.+)$", card.text, flags=re.MULTILINE)
    assert headings[:8] == ["Who taught whom", method, "Data", "Results", "Cost", "Use", "Reproduce", "Limits"]
    assert not re.search(r"None|\b(nan|inf)\b|\n\n\n|\{\{", card.text)

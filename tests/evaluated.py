"""What lies beside a run, for tests of tables, pictures and pages: made-up evaluations and answers on sensitivity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sample_records import student

from hf_distill.evaluation.record import Evaluation, EvaluationSettings, ModelResult, Timing
from hf_distill.run_record import DownstreamRecord

ACCURACY = {"labels": 0.50, "one_shot": 0.70, "two_shot": 0.80}


def timing(shape: str, batch_size: int, seconds: float, *, length: int | None = 32) -> Timing:
    """A timing whose spread is a tenth of its median."""
    return Timing(
        shape=shape,
        model=shape,
        batch_size=batch_size,
        length=length,
        median_seconds=seconds,
        low_seconds=0.9 * seconds,
        high_seconds=1.3 * seconds,
        quartile_seconds=(0.95 * seconds, 1.1 * seconds),
        repeats=20,
    )


def result(key: str, **changes: Any) -> ModelResult:
    """A model of the small shape."""
    fields: dict[str, Any] = {
        "name": key,
        "role": "student",
        "commit": f"sha256:{key}",
        "shape": "small",
        "parameters": 100_000,
        "weight_bytes": 400_000,
        "metrics": {"accuracy": 0.5, "loss": 0.7},
        "fidelity": {"rows": 100, "agreement": 0.9, "forward_kl": 0.1, "reverse_kl": 0.2},
        "calibration": {"rows": 100, "accuracy": 0.5, "confidence": 0.6, "error": 0.05},
    }
    return ModelResult(key=key, **{**fields, **changes})


def sample_evaluation(**changes: Any) -> Evaluation:
    """Labels, one-shot and two-shot over three seeds, their teacher, and a baseline of a shape between."""
    models = [
        result(
            "teacher",
            name="teacher, checkpoint-160",
            role="teacher",
            commit="sha256:t",
            shape="large",
            parameters=1_000_000,
            weight_bytes=4_000_000,
            metrics={"accuracy": 0.90, "loss": 0.3},
            fidelity=None,
        )
    ]
    for label, accuracy in ACCURACY.items():
        models += [
            result(
                f"students/{label}/seed-{seed}",
                name=f"{label}, seed {seed}",
                curriculum=label,
                seed=seed,
                metrics={"accuracy": accuracy + 0.01 * (seed - 1), "loss": 0.7},
            )
            for seed in range(3)
        ]
    models.append(
        result("baseline/org/middle", name="org/middle", role="baseline", shape="middle", parameters=300_000)
    )
    fields: dict[str, Any] = {
        "run": "sample",
        "task": {"name": "parity", "head": "classification", "metric": "accuracy", "greater_is_better": True},
        "data": "d" * 64,
        "reference": {"name": "checkpoint-160", "commit": "sha256:t"},
        "settings": EvaluationSettings(),
        "environment": {"device": "cpu", "torch_threads": 2, "torch": "2.13.0", "transformers": "5.23.0"},
        "models": models,
        "timings": [
            timing(shape, size, seconds * size**0.5)
            for shape, seconds in (("large", 0.012), ("small", 0.002), ("middle", 0.005))
            for size in (1, 16)
        ],
    }
    return Evaluation(**{**fields, **changes})


def sensitivity_of(curriculum: str | None, seed: int | None, scale: float) -> dict[str, Any]:
    """One model of an answer on sensitivity, numbers in proportion to `scale`; the teacher without a curriculum."""
    spread = {"mean": scale, "deviation": 2 * scale, "top_sum": 0.8, "top_values": [4 * scale, 2 * scale, scale]}
    pruning = {"shares": [0.0, 0.5, 0.8], "pruned": [0, 5, 8], "prunable": 10, "values": [0.9, 0.8, 0.5 - scale]}
    return {
        "name": f"{curriculum}, seed {seed}" if curriculum else "final",
        "kind": "student" if curriculum else "teacher",
        "step": None,
        "curriculum": curriculum,
        "seed": seed,
        "sensitivity": {"parameters": 10, "batches": 5, "loss": 0.5, "top": 0.2, "raw": spread, "normalised": spread},
        "pruning": pruning,
    }


def write_sensitivity(folder: Path) -> Path:
    """Write the answer of a run with plain and intra-distilled students into its folder, and return the folder."""
    models = [sensitivity_of(None, None, 0.1)]
    models += [sensitivity_of("plain", seed, 0.01 * (1 + seed)) for seed in range(3)]
    models += [sensitivity_of("intra", seed, 0.001 * (1 + seed)) for seed in range(3)]
    (folder / "analysis").mkdir()
    answer = {"analysis": "sensitivity", "settings": {"batches": 5, "metric": "accuracy"}, "models": models}
    (folder / "analysis" / "sensitivity.json").write_text(json.dumps(answer))
    return folder


def downstream_block(
    name: str = "cola", labels: tuple[str, ...] = ("two_shot", "from_scratch", "teacher")
) -> DownstreamRecord:
    """Three seeds of fine-tuning on CoLA from each beginning: .3 from the student, .1 from scratch, .4 the teacher."""
    ends = {"two_shot": 0.31, "from_scratch": 0.10, "teacher": 0.40}
    runs = []
    for label in labels:
        for seed in range(3):
            run = student(label, seed)
            value = ends[label] + 0.01 * (seed - 1)
            run.final_metrics = {"matthews_correlation": value, "loss": 0.5}
            run.history = [{"step": step, "matthews_correlation": value * step / 4} for step in (2, 4)]
            run.folder = f"finetune/{name}/{label}/seed-{seed}"
            run.steps_to_level = None
            runs.append(run)
    task = {"name": "glue", "head": "classification", "metric": "matthews_correlation", "greater_is_better": True}
    return DownstreamRecord(
        name=name,
        task={**task, "level": None, "description": {"source": "CoLA"}},
        carried={"two_shot": 0.98, "teacher": 0.99},
        runs=runs,
    )

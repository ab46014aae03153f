"""A step with cached targets against one with the live teacher, and against one that has no teacher at all.

Students of BERT-mini size (4 layers × 256) learn from a teacher of 6 layers × 384: classes, and masked tokens of a
vocabulary of 30,522. Each way takes the same steps in one process, in turns; the ratio is the median over rounds.
"in memory" gives the trainer the very targets of the exact cache without address, index or file: what is above it is
what caching costs. Targets: classes at most 1.05 × labels; float32 hidden states at most 1.15 × in memory.

    python scripts/benchmark_cached_targets.py --steps 8 --rounds 5 --output cached.json
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmark_step_overhead import batches, bert
from side_by_side import figures_parser, ratio
from transformers import BertForSequenceClassification, PreTrainedModel

from hf_distill import LiveTeacher, ProgressiveDistillConfig, ProgressiveDistillTrainer
from hf_distill.atomic import atomic_write_json
from hf_distill.cache.targets import cache_targets
from hf_distill.cache.walk import TargetWalk
from hf_distill.teachers.cached import CachedTeacher

CODECS = {
    "classes": [{"name": "logits"}],
    "masked tokens": [{"name": "hidden", "dtype": "float32"}, {"name": "hidden"}, {"name": "top_k", "k": 64}],
}


class InMemory(CachedTeacher):
    """A cached teacher that has read everything before the clock starts, in the order of the steps."""

    def __init__(self, cache: Path, teacher: CachedTeacher, seen: list[Any]) -> None:
        super().__init__(cache, verify=False)
        teacher.enter(0)
        self.kept = [teacher.head_rows(inputs, rows) for inputs, rows in seen]
        self.step = 0

    def head_rows(self, inputs: Any, rows: Any) -> Any:
        """Return the targets of the next step."""
        self.step += 1
        return self.kept[self.step - 1]


class Seen:
    """Keeps what a walk visits."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def visit(self, inputs: Any, rows: Any, *, revision: int) -> None:
        """Keep a batch."""
        self.batches.append((inputs, rows))


def model(task: str, layers: int, width: int, vocabulary: int) -> PreTrainedModel:
    """Build a BERT with fresh weights for a task."""
    torch.manual_seed(layers)
    masked = bert(layers, width, vocabulary)
    masked.config.num_labels = 3
    return BertForSequenceClassification(masked.config) if task == "classes" else masked


def examples(task: str, options: argparse.Namespace) -> list[dict[str, torch.Tensor]]:
    """Make random examples, a class each or 15 % of the positions labelled."""
    data = batches(options.steps, options.batch_size, options.length, options.vocabulary)
    return [{**row, "labels": row["input_ids"][0] % 3} for row in data] if task == "classes" else data


def trainer(
    kind: Any, task: str, teacher: Any, data: Any, folder: str, options: argparse.Namespace, **more: Any
) -> Any:
    """Build the trainer, or the walk, of the student's steps."""
    arguments = ProgressiveDistillConfig(
        output_dir=folder, max_steps=options.steps, per_device_train_batch_size=options.batch_size, report_to="none",
        curriculum="labels" if teacher is None else "one_shot", train_sampling_strategy="sequential", use_cpu=True,
        save_strategy="no", disable_tqdm=True, logging_steps=10**9, dataloader_pin_memory=False,
    )  # fmt: skip
    student = model(task, 4, 256, options.vocabulary)
    return kind(model=student, teacher=teacher, args=arguments, train_dataset=data, **more)


def measure(task: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the median step of each way, in each round, and what it is of the others."""
    data, teacher = examples(task, options), LiveTeacher(model(task, 6, 384, options.vocabulary))
    ways: dict[str, Any] = {"labels": lambda: None, "live": lambda: teacher}
    for codec in CODECS[task]:
        name, place = " ".join(map(str, codec.values())), folder / "_".join(map(str, codec.values()))
        cache_targets(place, [trainer(TargetWalk, task, teacher, data, str(folder), options)], codec=codec)
        if "in memory" not in ways:
            seen, opened = Seen(), CachedTeacher(place, verify=False)
            trainer(TargetWalk, task, teacher, data, str(folder), options).walk(seen)
            ways["in memory"] = lambda place=place, opened=opened, seen=seen: InMemory(place, opened, seen.batches)
        ways[f"cached {name}"] = lambda place=place: CachedTeacher(place, verify=False)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, source in ways.items():
            run = trainer(ProgressiveDistillTrainer, task, source(), data, str(folder), options)
            run.train()
            seconds[name].append(statistics.median(run.distillation.log.step_seconds[1:]))
    bases = ("labels", "in memory", "live")
    return {
        name: {"seconds": took, **{base: ratio(seconds, name, base) for base in bases}}
        for name, took in seconds.items()
    }


def main() -> None:
    """Run the rounds, print the table and write the figures."""
    sizes = {"batch_size": 16, "length": 128, "vocabulary": 30522}
    options = figures_parser(__doc__, steps=8, rounds=5, **sizes).parse_args()
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        **{key: value for key, value in vars(options).items() if key != "output"},
    }
    for task in CODECS:
        with tempfile.TemporaryDirectory() as folder:
            result[task] = measure(task, Path(folder), options)
        print(f"{task:<28} ms a step   ÷ labels   ÷ in memory   ÷ live")
        for name, found in result[task].items():
            times = f"{1000 * statistics.median(found['seconds']):9.1f} {found['labels']:10.2f}"
            print(f"  {name:<26} {times} {found['in memory']:13.2f} {found['live']:8.2f}")
    if options.output is not None:
        atomic_write_json(options.output, result)


if __name__ == "__main__":
    main()

"""What several passes of the student cost: a step's time and memory with K passes, in tiles and with whole logits.

Masked language models of BERT-mini size (student 4 layers × 256, teacher 6 layers × 384, vocabulary 30,522, 15 % of
the positions labelled). All ways take the same steps in one process, in turns; the ratio to one pass is the median
over rounds. Memory: the rise of the resident memory (on a GPU: of what is allocated) in a fresh process. Targets: K
passes take at most K times as long as one, and far less than K times its memory.

    python scripts/benchmark_intra.py --steps 8 --rounds 3 --output intra.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from typing import Any

import torch
from benchmark_step_overhead import batches, bert
from side_by_side import extra_memory, figures_parser, in_own_process, own_device, ratio

from hf_distill import LiveTeacher, ProgressiveDistillConfig, ProgressiveDistillTrainer
from hf_distill.atomic import atomic_write_json

PASSES = (1, 2, 3, 5)
WAYS = {f"{passes} {way}": (passes, way == "whole") for way in ("tiles", "whole") for passes in PASSES}


def trainer_of(name: str, folder: str, options: argparse.Namespace) -> ProgressiveDistillTrainer:
    """Build the trainer of some passes, with dropout, so that they differ."""
    passes, whole = WAYS[name]
    curriculum: dict[str, Any] = {"name": "one_shot"}
    if passes > 1:
        curriculum["intra"] = {"passes": passes, "alpha": 1.0}
    arguments = ProgressiveDistillConfig(
        output_dir=folder, max_steps=options.steps, per_device_train_batch_size=options.batch_size,
        curriculum=curriculum, save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=10**9,
        dataloader_pin_memory=False,
    )  # fmt: skip
    torch.manual_seed(0)
    teacher, student = bert(6, 384, options.vocabulary), bert(4, 256, options.vocabulary)
    data = batches(options.steps, options.batch_size, options.length, options.vocabulary)
    trainer = ProgressiveDistillTrainer(student, LiveTeacher(teacher), arguments, train_dataset=data)
    trainer.distillation.reader.whole_logits = whole
    return trainer


def step_seconds(name: str, options: argparse.Namespace) -> float:
    """Train, and return the median step after the first."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(name, folder, options)
        trainer.train()
    return statistics.median(trainer.distillation.log.step_seconds[1:])


def memory(name: str, options: argparse.Namespace) -> float:
    """Return the extra MiB of a training, the models and optimizer states included; for a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return extra_memory(trainer_of(name, folder, options).train, own_device())


def main() -> None:
    """Run the rounds, print the table and write the figures."""
    sizes = {"steps": 8, "batch_size": 16, "length": 128, "vocabulary": 30522}
    parser = figures_parser(__doc__, rounds=3, **sizes)
    parser.add_argument("--only", default=None, help="print the extra MiB of one way and end")
    options = parser.parse_args()
    if options.only is not None:
        print(json.dumps(memory(options.only, options)))
        return
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.rounds):
        for name in WAYS:
            seconds[name].append(step_seconds(name, options))
    asked = [word for key in sizes for word in (f"--{key.replace('_', '-')}", str(vars(options)[key]))]
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "device": own_device().type}
    print(f"{'passes':>10}  ms a step  ÷ one pass  extra MiB")
    for name, took in seconds.items():
        extra, one = in_own_process("--only", name, *asked), f"1 {name.split()[1]}"
        result[name] = {"seconds": took, "by one pass": ratio(seconds, name, one), "extra MiB": extra}
        print(f"{name:>10}  {1000 * statistics.median(took):9.1f}  {result[name]['by one pass']:10.2f}  {extra:9.0f}")
    if options.output is not None:
        atomic_write_json(options.output, result)


if __name__ == "__main__":
    main()

"""How long training waits when a teacher of BERT-base size (110 M parameters) changes its revision.

A small student learns from two revisions in a folder, with and without reading the second one ahead, in turns; pages
are dropped first, so that files come from the disk. Target: at most 2 median steps of the same run when read ahead.

    python scripts/benchmark_teacher_switch.py --rounds 3 --output switch.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import torch
from side_by_side import figures_parser
from transformers import BertConfig, BertForMaskedLM

from hf_distill import ProgressiveDistillConfig, ProgressiveDistillTrainer, TeacherSequence
from hf_distill.atomic import atomic_write_json

TARGET = 2.0


class WithoutReadAhead(TeacherSequence):
    """Reads each revision when it is needed."""

    def read_ahead(self, index: int) -> None:
        """Do nothing."""


def bert(layers: int, width: int) -> BertForMaskedLM:
    """Build a BERT with fresh weights and heads of 64."""
    sizes = {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    return BertForMaskedLM(BertConfig(num_hidden_layers=layers, **sizes))


def examples(count: int, length: int) -> list[dict[str, torch.Tensor]]:
    """Make random examples of which 15 % of the positions are labelled."""
    ids = torch.randint(5, 30000, (count, length))
    labels = torch.where(torch.rand(ids.shape) < 0.15, ids, torch.tensor(-100))
    return [{"input_ids": i, "attention_mask": torch.ones_like(i), "labels": y} for i, y in zip(ids, labels)]  # noqa: B905


def drop_pages(folder: Path) -> None:
    """Ask the system to forget the files' pages."""
    for path in folder.rglob("*.safetensors"):
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def switch(kind: type[TeacherSequence], teacher: Path, options: argparse.Namespace) -> dict[str, float]:
    """Train once; return the wait at the switch and the median step, in seconds."""
    drop_pages(teacher)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ProgressiveDistillConfig(
            output_dir=folder, curriculum={"name": "n_shot", "steps": options.steps}, max_steps=2 * options.steps,
            per_device_train_batch_size=options.batch_size, save_strategy="no", report_to="none", disable_tqdm=True,
            logging_steps=10**9, dataloader_pin_memory=False,
        )  # fmt: skip
        data = examples(arguments.max_steps * options.batch_size, options.length)
        trainer = ProgressiveDistillTrainer(bert(2, 128), kind(teacher), arguments, train_dataset=data)
        trainer.train()
    log = trainer.distillation.log
    step, stall = statistics.median(log.step_seconds), log.stalls[1]
    return {"stall_seconds": stall, "median_step_seconds": step, "stall_in_steps": stall / step}


def main() -> None:
    """Run the rounds, print the table and write the figures."""
    options = figures_parser(__doc__, steps=8, rounds=3, batch_size=8, length=64).parse_args()
    result: dict[str, object] = {**vars(options), "threads": torch.get_num_threads(), "target_in_steps": TARGET}
    runs: dict[str, list[dict[str, float]]] = {"read ahead": [], "not read ahead": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in (1, 2):
            model = bert(12, 768)
            model.save_pretrained(Path(folder) / f"checkpoint-{number}")
        result["teacher_parameters"] = model.num_parameters()
        for _ in range(options.rounds):
            runs["read ahead"].append(switch(TeacherSequence, Path(folder), options))
            runs["not read ahead"].append(switch(WithoutReadAhead, Path(folder), options))
    print(f"{result['teacher_parameters']:,} parameters, medians (least – most)")
    for label, found in runs.items():
        columns = {key: [run[key] for run in found] for key in found[0]}
        texts = [f"{key} {statistics.median(v):.3g} ({min(v):.3g} – {max(v):.3g})" for key, v in columns.items()]
        print(f"{label:>15}  " + "   ".join(texts))
        result[label] = columns
    if options.output is not None:
        atomic_write_json(options.output, result)


if __name__ == "__main__":
    main()

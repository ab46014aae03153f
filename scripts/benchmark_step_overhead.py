"""Step time of ProgressiveDistillTrainer against bare PyTorch loops that do the same work.

The work: teacher forward, student forward and backward, AdamW step, for masked language models of BERT-mini size
(student 4 layers × 256, teacher 6 layers × 384). All run in one process, in turns; the median ratio is what counts.
All take their steps with the fused AdamW, the same two groups of parameters, and the same decay and clipping. The
loops differ in what they compute of the vocabulary: the logits and divergences of all positions (the usual step), all
logits but the divergences of labelled positions, or only the logits of labelled positions (written for BERT by hand).

    python scripts/benchmark_step_overhead.py --steps 40 --rounds 3
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

import torch
import torch.nn.functional as F
from side_by_side import figures_parser, own_device, wait_for
from transformers import BertConfig, BertForMaskedLM

from hf_distill import LiveTeacher, ProgressiveDistillConfig, ProgressiveDistillTrainer
from hf_distill.atomic import atomic_write_json

LEARNING_RATE = 1e-4
DECAY = 0.01
LONGEST_GRADIENT = 1.0


def bert(layers: int, width: int, vocabulary: int) -> BertForMaskedLM:
    """Build a BERT with fresh weights and heads of 64."""
    heads = width // 64
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=128,
    )  # fmt: skip
    return BertForMaskedLM(config)


def batches(steps: int, size: int, length: int, vocabulary: int) -> list[dict[str, torch.Tensor]]:
    """Make random examples of which 15 % of the positions are labelled."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, vocabulary, (steps * size, length), generator=generator)
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.15, ids, torch.tensor(-100))
    mask = torch.ones_like(ids)
    return [{"input_ids": i, "attention_mask": m, "labels": y} for i, m, y in zip(ids, mask, labels, strict=True)]


def fused_adamw(model: torch.nn.Module) -> torch.optim.AdamW:
    """Build the Trainer's optimizer by hand: biases and layer norms, which are vectors, do not decay."""
    parameters = list(model.parameters())
    groups = [
        {"params": [weight for weight in parameters if weight.ndim > 1], "weight_decay": DECAY},
        {"params": [vector for vector in parameters if vector.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)


def kl(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return KL(teacher ‖ student) of each row."""
    log_p = F.log_softmax(target.float(), -1)
    return (log_p.exp() * (log_p - F.log_softmax(logits.float(), -1))).sum(-1)


def all_positions(student, teacher, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """The usual loss: everything for all positions, masked at the end."""
    logits = student(**batch).logits
    with torch.no_grad():
        target = teacher(**batch).logits
    return (kl(target, logits) * rows).sum() / rows.sum()


def selected_logits(student, teacher, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """Logits of all positions, divergences of labelled ones."""
    logits = student(**batch).logits[rows]
    with torch.no_grad():
        target = teacher(**batch).logits[rows]
    return kl(target, logits).mean()


def labelled_rows(student, teacher, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """Heads on labelled positions alone: what a careful user would write for BERT."""
    logits = student.cls(student.bert(**batch).last_hidden_state[rows])
    with torch.no_grad():
        target = teacher.cls(teacher.bert(**batch).last_hidden_state[rows])
    return kl(target, logits).mean()


LOOPS = {"all positions": all_positions, "selected logits": selected_logits, "labelled rows": labelled_rows}


def bare_steps(student, teacher, data: list[dict[str, torch.Tensor]], size: int, loss_of=labelled_rows) -> float:
    """A loop without a trainer: one clip, one AdamW step; return the mean seconds of a step."""
    device = own_device()
    student, teacher = student.to(device), teacher.to(device)
    optimizer = fused_adamw(student)
    student.train()
    wait_for(device)
    began = time.perf_counter()
    for start in range(0, len(data), size):
        rows = data[start : start + size]
        batch = {key: torch.stack([row[key] for row in rows]).to(device) for key in data[0]}
        counted = batch.pop("labels") != -100
        loss_of(student, teacher, batch, counted).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), LONGEST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
    wait_for(device)
    return (time.perf_counter() - began) * size / len(data)


def trainer_of(student, teacher, data: list[dict[str, torch.Tensor]], size: int, folder: str, **more: Any):
    """Build the trainer that does the same."""
    settings = {
        "output_dir": folder, "max_steps": len(data) // size, "per_device_train_batch_size": size,
        "optim": "adamw_torch_fused", "learning_rate": LEARNING_RATE, "weight_decay": DECAY,
        "max_grad_norm": LONGEST_GRADIENT, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "logging_steps": 10**9, "dataloader_pin_memory": False,
    }  # fmt: skip
    arguments = ProgressiveDistillConfig(**{**settings, **more})
    return ProgressiveDistillTrainer(model=student, teacher=LiveTeacher(teacher), args=arguments, train_dataset=data)


def trainer_steps(student, teacher, data: list[dict[str, torch.Tensor]], size: int, folder: str, **more: Any) -> float:
    """The same steps with ProgressiveDistillTrainer; return the mean seconds of one."""
    trainer = trainer_of(student, teacher, data, size, folder, **more)
    began = time.perf_counter()
    trainer.train()
    wait_for(own_device())
    # The whole run divided by its steps: fetching, hooks and logging included, nothing hidden between steps.
    return (time.perf_counter() - began) / trainer.args.max_steps


def main() -> None:
    """Run the benchmark and print its figures."""
    sizes = {"batch_size": 16, "length": 128, "vocabulary": 30522}
    options = figures_parser(__doc__, steps=30, rounds=3, **sizes).parse_args()
    torch.manual_seed(0)
    teacher = bert(6, 384, options.vocabulary).eval()
    data = batches(options.steps, options.batch_size, options.length, options.vocabulary)
    figures: dict[str, list[float]] = {name: [] for name in (*LOOPS, "trainer")}
    for _ in range(options.rounds):
        for name, loss_of in LOOPS.items():
            torch.manual_seed(1)
            student = bert(4, 256, options.vocabulary)
            figures[name].append(bare_steps(student, teacher, data, options.batch_size, loss_of))
        torch.manual_seed(1)
        with tempfile.TemporaryDirectory() as folder:
            student = bert(4, 256, options.vocabulary)
            figures["trainer"].append(trainer_steps(student, teacher, data, options.batch_size, folder))
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "steps": options.steps, "rounds": options.rounds}
    print(f"{'':>16}  {'ms a step':>9}  trainer ÷ this (median, min – max)")
    for name, seconds in figures.items():
        ratios = [ours / theirs for ours, theirs in zip(figures["trainer"], seconds, strict=True)]
        median = statistics.median(ratios)
        result[name] = {"seconds": seconds, "ratio_median": median, "ratio_min": min(ratios), "ratio_max": max(ratios)}
        spread = f"{median:.2f} ({min(ratios):.2f} – {max(ratios):.2f})"
        print(f"{name:>16}  {1000 * statistics.median(seconds):9.1f}  {spread}")
    if options.output is not None:
        atomic_write_json(options.output, result)


if __name__ == "__main__":
    main()

"""Kills a tiny training again and again, at random moments, and checks that it ends as if nothing had happened.

A run has what could resume wrongly: teacher switches, dropout, shuffled data, Adam, a decaying rate. Each of its lives
is ended by SIGKILL, or by SIGTERM in one of four, after a random time; the next one resumes from the newest whole
checkpoint. When a run reaches its end, its weights must be bitwise those of an undisturbed one, and another begins.
Ctrl-C ends the soak and prints what was seen until then.

    OMP_NUM_THREADS=1 python scripts/soak.py --cycles 1000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import load_file
from tqdm import tqdm
from transformers import BertConfig, BertForSequenceClassification, logging, set_seed

from hf_distill import ProgressiveDistillConfig, ProgressiveDistillTrainer, TeacherSequence
from hf_distill.faults.preemption import EXIT_CODE
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint

STEPS = 24
TERMINATED = 0.25
"""Share of the lives that SIGTERM ends."""


def bert(seed: int, dropout: float = 0.0) -> BertForSequenceClassification:
    """Build a tiny classifier."""
    set_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForSequenceClassification(BertConfig(vocab_size=40, hidden_dropout_prob=dropout, num_labels=3, **sizes))


def live(folder: Path, teacher: Path) -> None:
    """Train from the newest whole checkpoint to the end, and save the student."""
    sys.stdout = sys.stderr = (folder / "life.log").open("a", buffering=1)
    torch.set_num_threads(1)
    ids = torch.randint(5, 40, (48, 12), generator=torch.Generator().manual_seed(0))
    args = ProgressiveDistillConfig(
        str(folder / "run"), curriculum={"name": "n_shot", "steps": STEPS // 3}, max_steps=STEPS, save_steps=3,
        save_strategy="steps", save_total_limit=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        learning_rate=5e-3, lr_scheduler_type="cosine", use_cpu=True, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = ProgressiveDistillTrainer(
        model=bert(1, dropout=0.2),
        teacher=TeacherSequence(str(teacher)),
        args=args,
        train_dataset=[{"input_ids": row, "labels": row.sum() % 3} for row in ids],
    )
    last = find_last_whole_checkpoint(folder / "run")
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.save_model(str(folder / "ended"))


def life_of(folder: Path, teacher: Path, seconds: float | None, number: int) -> int:
    """Let a run live for so many seconds, or to its end; return its exit code."""
    folder.mkdir(exist_ok=True)
    process = multiprocessing.get_context("forkserver").Process(target=live, args=(folder, teacher))
    process.start()
    process.join(seconds)
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, number)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL, -signal.SIGTERM, EXIT_CODE), (folder / "life.log").read_text()
    return process.exitcode


def soak(folder: Path, cycles: int, seed: int) -> dict[str, float]:
    """Kill and resume so many times; return what happened.

    Raises:
        AssertionError: A run did not end with the weights of the undisturbed one, or lost a checkpoint.
    """
    chance, counts, runs = random.Random(seed), Counter[int](), 0
    for step in (10, 20, 30):
        bert(step).save_pretrained(folder / "teacher" / f"checkpoint-{step}")
    life_of(folder / "whole", folder / "teacher", None, 0)
    began = time.perf_counter()
    life_of(folder / "timed", folder / "teacher", None, 0)
    longest, whole = time.perf_counter() - began, load_file(folder / "whole" / "ended" / "model.safetensors")
    step, began, ended = 0, time.perf_counter(), False
    bar = tqdm(total=cycles, desc="Kills", unit="kill")
    with bar, suppress(KeyboardInterrupt):
        while counts.total() < cycles or not ended:
            number = signal.SIGTERM if chance.random() < TERMINATED else signal.SIGKILL
            seconds = chance.uniform(0, longest) if counts.total() < cycles else None
            run = folder / f"run-{runs}"
            code = life_of(run, folder / "teacher", seconds, number)
            counts.update([code] if code else [])
            bar.update(bool(code))
            last = find_last_whole_checkpoint(run / "run")
            reached = int(last.name.split("-")[1]) if last else 0
            assert reached >= step, f"{run.name} had checkpoint-{step}, now {last}"
            step, ended = reached, code == 0
            if ended:
                weights = load_file(run / "ended" / "model.safetensors")
                assert all(torch.equal(weights[name], whole[name]) for name in whole), f"{run.name} ended elsewhere"
                runs, step = runs + 1, 0
    killed = {"SIGKILL": counts[-9], "SIGTERM, checkpoint saved": counts[143], "SIGTERM, before training": counts[-15]}
    return {"cycles": counts.total(), **killed, "runs that ended": runs, "seconds": time.perf_counter() - began}


def main() -> None:
    """Soak, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.set_verbosity_error()
    # This file by its name, and what a training imports at its end: lives are short.
    multiprocessing.set_forkserver_preload([Path(__file__).stem, "hf_distill.hub.card"])
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"seed": options.seed, **soak(Path(folder), options.cycles, options.seed)}, indent=2))


if __name__ == "__main__":
    main()

"""Tiny teachers on disk: model folders, Trainer checkpoints and Hub caches with the client's own layout."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

TINY = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 8,
}


def save_teacher(folder: Path, *, seed: int = 0, max_shard_size: str = "1GB") -> Path:
    """Save a tiny BERT whose weights follow from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertForSequenceClassification(BertConfig(**TINY))
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return folder


def save_trainer_checkpoint(output_dir: Path, step: int, *, seed: int | None = None) -> Path:
    """Save what the Trainer leaves in `checkpoint-<step>`, in its order."""
    folder = save_teacher(output_dir / f"checkpoint-{step}", seed=step if seed is None else seed)
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"step": step, "state": torch.zeros(64)}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return folder


def save_pickled_teacher(folder: Path, *, seed: int = 0) -> Path:
    """Save a model as old repositories have it: pytorch_model.bin and no safetensors."""
    torch.manual_seed(seed)
    model = BertModel(BertConfig(**TINY))
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def commit_of(text: str) -> str:
    """A commit for a test: 40 hexadecimal digits that follow from a text."""
    return hashlib.sha1(text.encode()).hexdigest()


def cache_model(cache_dir: Path, model_id: str, revisions: Mapping[str, Path | None]) -> Path:
    """Lay out a Hub cache as a download does; a revision without a folder has its reference only.

    Returns:
        The model's folder in the cache.
    """
    storage = cache_dir / f"models--{model_id.replace('/', '--')}"
    for name, source in revisions.items():
        commit = commit_of(f"{model_id}@{name}")
        reference = storage / "refs" / name
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
        if source is not None:
            _link_snapshot(storage, commit, source)
    return storage


def cut(path: Path, size: int) -> None:
    """Leave the first bytes of a file only, as a full disk or a killed process does."""
    path.write_bytes(path.read_bytes()[:size])


def _link_snapshot(storage: Path, commit: str, source: Path) -> None:
    blobs = storage / "blobs"
    blobs.mkdir(exist_ok=True)
    for path in source.rglob("*"):
        if path.is_file():
            blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
            shutil.copyfile(path, blob)
            link = storage / "snapshots" / commit / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)

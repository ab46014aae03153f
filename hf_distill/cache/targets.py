"""Filling a cache with all that some trainings will ask their teacher."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import PreTrainedTokenizerBase

from hf_distill.cache.cacheable import check_head_cacheable, check_plan_cacheable, check_repeatable
from hf_distill.cache.codecs import CODECS
from hf_distill.cache.filling import Filling
from hf_distill.cache.format import TEACHER, Manifest, Settings
from hf_distill.cache.walk import TargetWalk
from hf_distill.cache.writer import CacheWriter
from hf_distill.models.compatibility import PROBE
from hf_distill.reading.signals import TARGET_KEYS, TOKEN_HEADS
from hf_distill.teachers.base import TeacherSource
from hf_distill.teachers.cached import CachedTeacher

_OF_THE_STUDENT = ("ema", "adapter_off")


@dataclass(frozen=True, kw_only=True)
class Caching:
    """What filling a cache came to.

    Attributes:
        manifest: Of the cache.
        forwarded: Examples that went through the teacher now, on all processes.
        visited: Examples that the trainings ask for, each as often as it comes, on all processes.
        seconds: It took.
    """

    manifest: Manifest
    forwarded: int
    visited: int
    seconds: float


@dataclass(kw_only=True)
class About:
    """What the cache should say about itself; see `Manifest`."""

    data: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] | None = None


def cache_targets(
    folder: str | Path,
    walks: Iterable[TargetWalk],
    *,
    codec: Mapping[str, Any],
    max_length: int | None = None,
    about: About | None = None,
    **writing: Any,
) -> Caching:
    """Write what the trainings of `walks` will ask their teacher, each example for the revision of its own stage.

    Call it in every process. What a folder holds already is kept, and walks that a finished cache names are not
    walked again: a second call with the same arguments writes nothing.

    Args:
        folder: The cache.
        walks: Of one teacher and one head; made one after the other, where they come from a generator.
        codec: `name` and fields of the codec, as in `CODECS`.
        max_length: Tokens of an example at most, where that is known; a reader with another one is refused by name.
        about: What the cache should say about itself.
        **writing: `shard_bytes`, `shard_seconds` of `CacheWriter`.

    Raises:
        ValueError: The folder holds something else, or targets that cannot be cached at all or by this codec.
    """
    started, about = time.perf_counter(), about or About()
    writer: CacheWriter | None = None
    done: dict[str, int] = {}
    visited = 0
    for walk in walks:
        teacher = taught_by(walk)
        check_head_cacheable(walk.distillation.head)
        check_plan_cacheable(walk.plan(), codec=CODECS.build(codec, path="codec"))
        check_repeatable(walk)
        settings = settings_of(walk, codec, max_length=max_length)
        if writer is None:
            writer = CacheWriter(folder, settings=settings, revisions=teacher.manifest(), **writing)
            keep_teacher_files(writer.folder / TEACHER, teacher)
        elif settings != writer.manifest.settings:
            raise ValueError(f"one cache cannot hold targets of two kinds: {settings} and {writer.manifest.settings}")
        asked = writer.walks.get(walk.fingerprint or "")
        if asked is None:
            filling = Filling(writer, teacher, head=walk.distillation.head)
            walk.walk(filling)
            asked = _over_processes(filling.visited.total())
        visited += asked
        done |= {walk.fingerprint: asked} if walk.fingerprint is not None else {}
    if writer is None:
        raise ValueError("no training with a teacher was given, so that there is nothing to cache")
    manifest = writer.finish(walks=done, data=about.data, teacher=about.teacher, recipe=about.recipe)
    return Caching(
        manifest=manifest,
        forwarded=_over_processes(writer.forwarded),
        visited=visited,
        seconds=time.perf_counter() - started,
    )


def taught_by(walk: TargetWalk) -> TeacherSource:
    """Return the teacher of a walk, which must be the same in every epoch and for every student.

    Raises:
        ValueError: It has none, or one that changes with the student.
    """
    teacher = walk.distillation.teacher
    if teacher is None:
        raise ValueError("this training learns from labels only: there is no teacher whose targets could be cached")
    if teacher.state is not None or teacher.calibration_examples or teacher.kind in _OF_THE_STUDENT:
        raise ValueError(
            f"what {type(teacher).__name__} says depends on the student or on the step, so its targets are not known "
            "beforehand and cannot be cached; let it run live"
        )
    if isinstance(teacher, CachedTeacher):
        raise ValueError("the teacher of this training is cached already; caching needs the live one")
    return teacher


def settings_of(walk: TargetWalk, codec: Mapping[str, Any], *, max_length: int | None = None) -> Settings:
    """Return what the targets of a training are."""
    teacher, head = taught_by(walk), walk.distillation.head
    config = teacher.config
    tokenizer = walk.processing_class
    return Settings(
        codec=dict(codec),
        head=head,
        vocabulary=int(config.get_text_config().vocab_size if head in TOKEN_HEADS else config.num_labels),
        inputs=sorted(teacher.forward_arguments - TARGET_KEYS),
        precision=str(walk.accelerator.mixed_precision),
        loading=dict(teacher.loading),
        tokenizer=tokenizer_hash(tokenizer) if isinstance(tokenizer, PreTrainedTokenizerBase) else None,
        max_length=max_length,
    )


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of a tokenizer's vocabulary and of how it splits a text that tells tokenizers apart."""
    known = [tokenizer.get_vocab(), tokenizer(PROBE, add_special_tokens=True)["input_ids"]]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def keep_teacher_files(folder: Path, teacher: TeacherSource) -> None:
    """Keep the teacher's configuration and tokenizer, which say whether a student can learn from its targets."""
    state = PartialState()
    if state.is_main_process:
        teacher.config.save_pretrained(folder)
        if teacher.tokenizer is not None:
            teacher.tokenizer.save_pretrained(folder)
    state.wait_for_everyone()


def _over_processes(number: int) -> int:
    state = PartialState()
    if state.num_processes == 1:
        return number
    return int(reduce(torch.tensor(number, device=state.device), reduction="sum"))

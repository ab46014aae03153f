"""A teacher that said everything beforehand: its targets are read from a cache, and no teacher runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from hf_distill.cache.filling import accepted, counted_rows
from hf_distill.cache.format import MANIFEST, TEACHER
from hf_distill.cache.key import example_keys
from hf_distill.cache.place import cache_folder
from hf_distill.cache.reader import CacheReader
from hf_distill.kernels.head_rows import HeadRows, LogitRows
from hf_distill.kernels.heads import Head as OutputHead
from hf_distill.reading.signals import Head, Rows
from hf_distill.tasks.parity_model import register_parity_mlp
from hf_distill.teachers.base import TeacherSource
from hf_distill.teachers.checkpoint_files import has_tokenizer
from hf_distill.teachers.revisions import Revision


class CachedTeacher(TeacherSource):
    """A teacher whose targets `hf-distill cache` has written.

    It answers for the examples that it was written for, each with the revision of its stage, and gives logits only.

    Args:
        cache: Folder of the cache, or a data set on the Hub: "org/name", "org/name@revision".
        revisions: Of the teacher that the cache should be of; None takes those that the cache names.
        verify: Compare every file with its checksum first.
        token: For private repositories; never logged.
        cache_dir: The Hub cache to use.
        trust_remote_code: Run code that the teacher's configuration names.
        show_progress: Draw a bar while files are compared.

    Raises:
        ValueError: The cache is unfinished or damaged, or of another state of the teacher; what is wrong is named.
    """

    kind = "cached"

    provides = frozenset({"teacher.logits"})

    def __init__(
        self,
        cache: str | Path,
        *,
        revisions: Sequence[Revision] | None = None,
        verify: bool = True,
        token: str | None = None,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
        show_progress: bool = True,
    ) -> None:
        register_parity_mlp()  # AutoConfig must know the package's own architecture
        folder = cache_folder(cache, token=token, cache_dir=cache_dir, show_progress=show_progress)
        self.reader = CacheReader(folder, verify=verify, show_progress=show_progress)
        self.manifest_of_cache = self.reader.manifest
        self.revisions = [_as_revision(entry) for entry in self.manifest_of_cache.revisions]
        if revisions is not None:
            check_same_teacher(revisions, self.revisions, cache=str(cache))
        self.current: int | None = None
        self._remote_code = trust_remote_code
        self._accelerator: Accelerator | None = None
        self._heads: dict[str, OutputHead] = {}

    def attach(self, *, head: Head, accelerator: Accelerator | None) -> None:
        """Remember where targets are wanted.

        Raises:
            ValueError: The cache is of a teacher with another head.
        """
        ours = self.manifest_of_cache.settings.head
        if head != ours:
            raise ValueError(
                f"the student has a {head} head, and the targets in {self.reader.folder} are those of a {ours} "
                f"teacher; write a cache for this task with `hf-distill cache`"
            )
        self._accelerator = accelerator

    @cached_property
    def config(self) -> PreTrainedConfig:
        """Configuration of the final revision."""
        return AutoConfig.from_pretrained(self.reader.folder / TEACHER, trust_remote_code=self._remote_code)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The teacher's tokenizer, where it has one."""
        folder = self.reader.folder / TEACHER
        if not has_tokenizer(folder):
            return None
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=self._remote_code)

    @property
    def model(self) -> torch.nn.Module:
        """There is none.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"the cached targets in {self.reader.folder} stand for the teacher, and no model is loaded; what looks "
            "into the teacher needs it live: leave `teacher.cached` out"
        )

    @cached_property
    def forward_arguments(self) -> frozenset[str]:
        """The names that the teacher's forward accepts."""
        return frozenset(self.manifest_of_cache.settings.inputs)

    def enter(self, index: int) -> float:
        """Answer with revision `index` from now on; return the seconds it took to read its output layer."""
        if index == self.current:
            return 0.0
        started = time.perf_counter()
        self.current = index
        # Output layers are as large as the vocabulary: those of other revisions make room.
        self._heads = {}
        self._head()
        return time.perf_counter() - started if self._heads else 0.0

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return the current revision's logits of examples that are one row each.

        Shapes: (B, classes).

        Raises:
            ValueError: The head has rows for positions, of which only some are kept; or an example is not there.
        """
        if self.manifest_of_cache.settings.head not in ("classification", "regression"):
            raise ValueError(
                "only the rows that count are cached; ask for them with `row_logits(inputs, rows)`, or let the "
                "teacher run live"
            )
        return self.row_logits(inputs, Rows(None, None, False))

    @torch.no_grad()
    def row_logits(self, inputs: Mapping[str, Any], rows: Rows) -> Tensor:
        """Return the current revision's logits of the rows that count.

        Shapes: (R, V).

        Raises:
            ValueError: An example is not there; the message names the likely reasons.
        """
        kept = self.head_rows(inputs, rows)
        if self._accelerator is None or not isinstance(kept, HeadRows):
            return kept.logits()
        with self._accelerator.autocast():
            return kept.logits()

    @torch.no_grad()
    def head_rows(self, inputs: Mapping[str, Any], rows: Rows) -> HeadRows | LogitRows:
        """Return the current revision's rows that count as they are kept: nothing of the vocabulary's size is made.

        Raises:
            ValueError: No revision has been entered, or an example is not there.
        """
        if self.current is None:
            raise ValueError("the cached teacher answers for no revision yet; call `enter(index)` first")
        commit = self.revisions[self.current].commit
        keys = example_keys(accepted(inputs, self.forward_arguments), rows.mask)
        counts = counted_rows(rows, len(keys)).to(keys.device)
        # One transfer for both: on a GPU each would wait for all that is queued.
        found = torch.cat([keys, counts[:, None]], dim=1).cpu()
        columns = self.reader.read(commit, found[:, :2], found[:, 2].numpy())
        device = keys.device
        return self.reader.codec.decode(
            {name: column.to(device, non_blocking=True) for name, column in columns.items()},
            vocabulary=self.manifest_of_cache.settings.vocabulary,
            head=self._head(),
        )

    def _head(self) -> OutputHead | None:
        if self.reader.codec.reads == "logits" or self.current is None:
            return None
        commit = self.revisions[self.current].commit
        if commit not in self._heads:
            device = self._accelerator.device if self._accelerator is not None else None
            head = self.reader.head(commit, device=device)
            if head is None:
                return None  # There is no target of this revision either, and the first one asked for says so.
            self._heads[commit] = head
        return self._heads[commit]

    def manifest(self) -> list[dict[str, Any]]:
        """Return the revisions as the cache lists them."""
        return [dict(entry) for entry in self.manifest_of_cache.revisions]


def check_same_teacher(source: Sequence[Revision], cached: Sequence[Revision], *, cache: str) -> None:
    """Refuse a cache whose revisions are not what the teacher's source has now.

    A cache may be of some of the source's revisions.

    Raises:
        ValueError: A revision of the cache is gone from the source, or has moved; both commits are named.
    """
    now = {revision.name: revision.commit for revision in source}
    for revision in cached:
        found = now.get(revision.name)
        if found != revision.commit:
            stands = f"is {found} in the teacher's source" if found else "is not in the teacher's source"
            raise ValueError(
                f"the cached targets in {cache} are stale: they are of the teacher revision {revision.name!r} at "
                f"{revision.commit}, which now {stands} ({MANIFEST} lists what was cached). Write a new cache, or pin "
                "the old revision"
            )


def _as_revision(entry: Mapping[str, Any]) -> Revision:
    return Revision(
        name=entry["name"],
        step=entry["step"],
        source=entry["source"],
        revision=entry["revision"],
        commit=entry["commit"],
    )

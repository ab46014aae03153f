"""The teacher's own training checkpoints: loaded once, then swapped in place, the next one read ahead."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_distill.models.compatibility import auto_class_of, check_teacher_head
from hf_distill.reading.signals import Head
from hf_distill.tasks.parity_model import register_parity_mlp
from hf_distill.teachers.base import TeacherSource, loading_of, unwrapped
from hf_distill.teachers.checkpoint_files import has_tokenizer
from hf_distill.teachers.fetcher import Fetcher, OnDownloadFailure
from hf_distill.teachers.hub_download import DOWNLOADING
from hf_distill.teachers.placement import Placement
from hf_distill.teachers.quantization import build_quantization, replace_parts
from hf_distill.teachers.read_ahead import ReadAhead
from hf_distill.teachers.retry import Backoff, RevisionUnavailable
from hf_distill.teachers.revisions import Revision, TeacherEntries, check_unchanged, resolve_revisions, selection_of
from hf_distill.teachers.sharding import loading_whole
from hf_distill.teachers.swap import copy_in_place, names_fit

logger = logging.getLogger(__name__)


class TeacherSequence(TeacherSource):
    """An ordered list of revisions of one teacher.

    Args:
        spec: A Trainer output folder with `checkpoint-*`, Hub revisions such as "org/model@step*", one model, a list
            of ids, paths or "id@revision" in order, or a mapping that chooses among them (see `Selection`).
        dtype: Of the teacher's weights; "auto" keeps the checkpoint's.
        tokenizer: The teacher's tokenizer, or the id or path of it; by default the one beside the final revision.
        token: For private repositories; never logged.
        cache_dir: The Hub cache to use.
        allow_pickled_weights: Accept repositories without safetensors.
        trust_remote_code: Run code that the repository brings.
        on_download_failure: When a revision cannot be downloaded even after several tries: `stop` training with a
            checkpoint, or `wait` and try on. None is ever left out.
        max_cached_gb: Most that the weights downloaded by this run may take on disk, in 10⁹ bytes; those of revisions
            that no later stage needs are removed. None for no limit.
        backoff: How often to try a download, and how long to wait between two tries.
        quantization: How to quantise the weights when they are loaded: `quant_method` and fields of transformers'
            configuration of it, such as {load_in_4bit: true}. Each revision is then loaded anew at its switch.
        offload: Keep the weights in CPU memory and bring them to the device for each call.
        compiled: Run the body through torch.compile: True, or the name of a backend. Layers cannot be read then.
        sharded: Split the weights over ranks where FSDP2 or ZeRO-3 splits the student's; of the revisions that follow,
            each rank reads its own piece only. Elsewhere every rank has them whole.

    Raises:
        ValueError: A revision is missing, half-written, pickled or not to be had offline, or cannot be quantised here;
            the message says what to do.
    """

    def __init__(
        self,
        spec: TeacherEntries,
        *,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        tokenizer: PreTrainedTokenizerBase | str | None = None,
        token: str | None = None,
        cache_dir: str | None = None,
        allow_pickled_weights: bool = False,
        trust_remote_code: bool = False,
        on_download_failure: OnDownloadFailure = "stop",
        max_cached_gb: float | None = None,
        backoff: Backoff = DOWNLOADING,
        quantization: Mapping[str, Any] | None = None,
        offload: bool = False,
        compiled: bool | str = False,
        sharded: bool = False,
    ) -> None:
        self._quantization = build_quantization(quantization)
        quantized = quantization is not None
        self._placement = Placement(offload=offload, compiled=compiled, sharded=sharded, quantized=quantized)
        self.provides = self._placement.allowed(self.provides)
        register_parity_mlp()  # AutoConfig must know the package's own architecture
        self.loading = loading_of(dtype, quantization)
        self.spec = spec
        selection = selection_of(spec)
        self.near_transition = selection.near_transition if selection is not None else None
        self.revisions = resolve_revisions(
            spec, token=token, allow_pickled_weights=allow_pickled_weights, cache_dir=cache_dir
        )
        self.current: int | None = None
        self._dtype = dtype
        self._given_tokenizer = tokenizer
        self._token = token
        self._pickled = allow_pickled_weights
        self._remote_code = trust_remote_code
        self._head: Head | None = None
        self._accelerator: Accelerator | None = None
        self._model: torch.nn.Module | None = None
        self._fetcher = Fetcher(
            token=token,
            cache_dir=cache_dir,
            allow_pickled_weights=allow_pickled_weights,
            on_download_failure=on_download_failure,
            max_cached_gb=max_cached_gb,
            backoff=backoff,
        )
        # Quantised tensors are made where they are loaded: there is nothing to copy.
        self._reader = ReadAhead(self._fetcher, keep_tensors=self._quantization is None)
        self._waited = 0.0
        self._attention: str | None = None

    def attach(self, *, head: Head, accelerator: Accelerator | None) -> None:
        """Remember the head and who places the model; no weights are loaded before the first `enter`.

        Raises:
            ValueError: The final revision was saved with another head.
        """
        for architecture in self.config.architectures or []:
            check_teacher_head(head, architecture, self.config)
        self._head = head
        self._accelerator = accelerator

    def give_attentions(self) -> None:
        """Load revisions with the attention that gives its probabilities, and switch the one in memory to it."""
        self._attention = "eager"
        if self._model is not None:
            # Another student of a comparison has used it before.
            inner = unwrapped(self._model)
            assert isinstance(inner, PreTrainedModel)
            inner.set_attn_implementation("eager")

    @cached_property
    def config(self) -> PreTrainedConfig:
        """Configuration of the final revision."""
        return AutoConfig.from_pretrained(self._folder(-1), trust_remote_code=self._remote_code)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The given tokenizer, or the one beside the final revision's weights."""
        if isinstance(self._given_tokenizer, PreTrainedTokenizerBase):
            return self._given_tokenizer
        if self._given_tokenizer is None and not has_tokenizer(self._folder(-1)):
            return None
        return AutoTokenizer.from_pretrained(
            self._given_tokenizer or self._folder(-1), token=self._token, trust_remote_code=self._remote_code
        )

    @cached_property
    def forward_arguments(self) -> frozenset[str]:
        """The names that the teacher's forward accepts, known before any weights are read."""
        with torch.random.fork_rng(devices=[]), loading_whole(self._accelerator), torch.device("meta"):
            skeleton = self._auto_class.from_config(self.config, trust_remote_code=self._remote_code)
        return frozenset(inspect.signature(skeleton.forward).parameters)

    @property
    def _auto_class(self) -> Any:
        if self._head is None:
            raise ValueError("attach the teacher sequence to a trainer (or call `attach`) before using it")
        return auto_class_of(self._head, self.config)

    @property
    def model(self) -> torch.nn.Module:
        """The frozen teacher.

        Raises:
            ValueError: No revision has been entered yet.
        """
        if self._model is None:
            raise ValueError("the teacher sequence holds no revision yet; call `enter(index)` first")
        return self._model

    @property
    def is_split(self) -> bool:
        """Whether each rank holds a piece of the weights only."""
        return self._placement.split is not None

    def enter(self, index: int) -> float:
        """Put the weights of revision `index` into the teacher, in place; return the seconds that took.

        Raises:
            ValueError: The revision's tensors do not fit the teacher (another architecture, size or head).
        """
        if index == self.current:
            return 0.0
        started = time.perf_counter()
        revision = self.revisions[index]
        if self._model is None:
            self._model = self._placement.place(self._load(revision), self._accelerator)
            if self._placement.split is not None:
                self._reader.read_only(self._placement.split.pieces)
        else:
            self._swap(revision)
        self.current = index
        stall = time.perf_counter() - started + self._waited
        self._waited = 0.0
        logger.info("Teacher revision %s (%s) after %.2f s", revision.name, revision.commit, stall)
        return stall

    def prepare(self, index: int) -> None:
        """Wait until `enter(index)` has its weights at hand; that wait counts as its stall.

        Raises:
            RevisionUnavailable: They cannot be had.
        """
        if self._model is None or index == self.current:
            return
        started = time.perf_counter()
        try:
            self._reader.ready(self.revisions[index])
        except (OSError, ValueError) as error:
            raise RevisionUnavailable(f"teacher revision {self.revisions[index]} cannot be had: {error}") from error
        finally:
            self._waited += time.perf_counter() - started

    def need(self, indexes: Collection[int]) -> None:
        """Say which revisions are still to come, the current one included; the disk budget may remove others."""
        final = len(self.revisions) - 1
        self._fetcher.need(self.revisions[index] for index in {*indexes, final})

    def narrow(self, revisions: Sequence[Revision]) -> None:
        """Keep only these revisions, in their order; `current` stays the same revision where it is among them.

        Raises:
            ValueError: One of them is not in the sequence, or the final one is not the last.
        """
        kept = list(revisions)
        if not kept or any(revision not in self.revisions for revision in kept) or kept[-1] != self.revisions[-1]:
            raise ValueError("a teacher sequence is narrowed to some of its own revisions, the final one at the end")
        current = self.revisions[self.current] if self.current is not None else None
        self._reader.close()
        self.revisions = kept
        self.current = kept.index(current) if current in kept else None
        self.near_transition = None

    def read_ahead(self, index: int) -> None:
        """Start reading revision `index` (download included) in the background."""
        self._reader.start(self.revisions[index])

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.close()

    def _folder(self, index: int) -> Path:
        return self._fetcher.folder(self.revisions[index])

    def _load(self, revision: Revision) -> PreTrainedModel:
        """Load a revision with transformers without touching the random state of training.

        Onto the CPU; what is quantised, onto the device.
        """
        folder = self._folder(self.revisions.index(revision))
        check_unchanged(revision)
        device = self._accelerator.device if self._accelerator is not None else None
        quantized = self._quantization.load_arguments(device) if self._quantization is not None else {}
        with torch.random.fork_rng(devices=[]), loading_whole(self._accelerator):
            model, info = self._auto_class.from_pretrained(
                folder,
                dtype=self._dtype,
                use_safetensors=None if self._pickled else True,
                trust_remote_code=self._remote_code,
                attn_implementation=self._attention,
                output_loading_info=True,
                **quantized,
            )
        absent = sorted(info["missing_keys"]) + [str(key) for key in info["mismatched_keys"]]
        if absent:
            raise ValueError(
                f"teacher revision {revision.name!r} of {revision.source} lacks weights that a {self._head} teacher "
                f"needs: {', '.join(absent[:5])}{' …' if len(absent) > 5 else ''}. It has another head or other "
                "layer names; what is missing would be drawn at random and teach noise"
            )
        return model

    def _swap(self, revision: Revision) -> None:
        inner = unwrapped(self.model)
        what = f"teacher revision {revision.name!r} of {revision.source}"
        tensors = self._reader.take(revision)
        if self._placement.split is not None:
            self._placement.split.write(tensors, lambda: self._load(revision), what=what)
            return
        if self._quantization is not None:
            self.forget_head()
            replace_parts(inner, lambda: self._load(revision), what=what)
            self._placement.renew(inner)
            return
        if not names_fit(tensors, inner):
            # Names that transformers converts on loading (old LayerNorm names, merged experts, a missing prefix).
            tensors = dict(self._load(revision).state_dict())
        self._placement.settle()
        copy_in_place(tensors, inner, what=what)

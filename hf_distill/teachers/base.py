"""What a teacher source is: it turns a batch into the teacher's outputs, for one revision of the teacher at a time."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.kernels.head_rows import HeadRows, LogitRows
from hf_distill.models.checkpointed_module import CheckpointedModule
from hf_distill.models.inputs import in_weights_format, model_inputs
from hf_distill.models.outputs import logits_of
from hf_distill.reading.layers import layer_tap
from hf_distill.reading.model_reading import Reading, read_model
from hf_distill.reading.row_head import RowHead
from hf_distill.reading.signals import TARGET_KEYS, Head, Rows
from hf_distill.teachers.revisions import Revision

Answer = TypeVar("Answer")

NO_CACHE: dict[str, Any] = {"use_cache": False}


class TeacherSource(ABC):
    """Turns a batch into the teacher's outputs.

    The trainer asks in this order: `attach_student` and `attach` once, `config` and `tokenizer` for its checks,
    `restart` when a training begins anew, then for each optimizer step `enter(revision)` (does nothing where it is
    current), `at(progress)`, `row_logits(inputs, rows)` and, once the student has moved, `student_stepped`.

    Attributes:
        kind: What it is, under one word, for records.
        provides: What objectives may ask of this source, "teacher.logits", ...; and views: "teacher.live", that it
            runs on inputs which no data set holds, and "teacher.embeddings", that `model` is all that runs.
        revisions: First to final.
        near_transition: How many revisions around the transition are still to be chosen by score; None: no choice.
        calibration_examples: Training examples to `calibrate` on before the first step; 0 where there is no need.
        loading: How weights are changed when they are loaded, `dtype` and `quantization`; empty: as they are stored.
        state: What of the source each checkpoint must keep; None where a teacher never changes by itself.
    """

    kind: str = "teacher"

    provides: frozenset[str] = frozenset(
        {"teacher.logits", "teacher.hidden_states", "teacher.attentions", "teacher.live", "teacher.embeddings"}
    )

    revisions: Sequence[Revision]

    near_transition: int | None = None

    calibration_examples: int = 0

    loading: Mapping[str, Any] = MappingProxyType({})

    state: CheckpointedModule | None = None

    def attach_student(self, student: torch.nn.Module) -> None:
        """Take note of the student before `attach`: where a teacher is made of it.

        Raises:
            ValueError: A teacher cannot be made of it.
        """

    @abstractmethod
    def attach(self, *, head: Head, accelerator: Accelerator | None) -> None:
        """Say for which head the teacher is wanted and who places it on the device (None: it stays on the CPU)."""

    @property
    @abstractmethod
    def config(self) -> PreTrainedConfig:
        """Configuration of the final revision."""

    @property
    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The teacher's tokenizer, where it has one."""

    @abstractmethod
    def enter(self, index: int) -> float:
        """Make revision `index` the one that answers; return the seconds that training waited for it."""

    @property
    @abstractmethod
    def model(self) -> torch.nn.Module:
        """The frozen teacher, wrapped as the accelerator placed it."""

    @property
    def is_split(self) -> bool:
        """Whether each rank holds a piece of `model` only: then all of them must ask equally often."""
        return False

    def prepare(self, index: int) -> None:
        """Wait until revision `index` can be entered.

        Raises:
            RevisionUnavailable: It cannot be had; training has to stop.
        """

    def need(self, indexes: Collection[int]) -> None:
        """Say which revisions are still to come, the current one included; a source may forget the others."""

    def read_ahead(self, index: int) -> None:
        """Start reading revision `index` in the background, where the source can."""

    def restart(self) -> None:
        """Forget what an earlier training left: another one begins, and not from a checkpoint."""

    def calibrate(self, batches: Iterable[Mapping[str, Any]]) -> None:
        """Look at the first `calibration_examples` training examples, which are the same on every rank.

        Raises:
            ValueError: They do not tell what is to be known.
        """

    def at(self, progress: float) -> None:
        """Say how far training has come, as a share of its steps; a source with schedules goes by it."""

    def student_stepped(self) -> None:
        """Say that the student has taken an optimizer step."""

    def drain_usage(self) -> dict[str, Tensor]:
        """Return how many examples each part of the source answered since the last call, on this rank, by log name."""
        return {}

    def close(self) -> None:
        """Release background workers and memory."""

    def manifest(self) -> list[dict[str, Any]]:
        """Return name, step, source, revision and commit (or content hash) of each revision, for the run record.

        A revision that is made of others has them as `members`.
        """
        return [manifest_entry(revision) for revision in self.revisions]

    @cached_property
    def forward_arguments(self) -> frozenset[str]:
        """The names that the teacher's forward accepts."""
        return frozenset(inspect.signature(unwrapped(self.model).forward).parameters)

    def inputs_of(self, batch: Mapping[str, Any], *, head: Head) -> dict[str, Any]:
        """Return a batch as models read it, where there is no student to say how its decoder's input is made."""
        return model_inputs(head, batch, self.model if head == "seq2seq_lm" else None)

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return the current revision's logits for a batch, without labels and without gradient.

        Shapes: as the head gives them: (B, classes), (B, T, V), or (B, 2, T) for start and end of answers.
        """
        return logits_of(self.model(**self._accepted(inputs)), inputs.get("attention_mask"))

    @torch.no_grad()
    def row_logits(self, inputs: Mapping[str, Any], rows: Rows) -> Tensor:
        """Return the current revision's logits of the rows that count: all that objectives on logits look at.

        Shapes: (R, V).
        """
        found = self._at_head(inputs, rows, HeadRows.logits)
        return rows.of(self.logits(inputs)) if found is None else found

    @torch.no_grad()
    def head_rows(self, inputs: Mapping[str, Any], rows: Rows) -> HeadRows | LogitRows:
        """Return the rows that count in front of the head, where `model` is all that runs and its head can be split.

        Elsewhere they are those of `row_logits`.
        """
        found = self._at_head(inputs, rows, HeadRows.with_own_head if self.is_split else HeadRows.detached)
        return LogitRows.of(self.row_logits(inputs, rows)) if found is None else found

    def _at_head(self, inputs: Mapping[str, Any], rows: Rows, make: Callable[[HeadRows], Answer]) -> Answer | None:
        """Return what `make` makes of the rows in front of a vocabulary's head; None where they cannot be had."""
        if rows.mask is None or rows.mask.dim() < 2 or "teacher.embeddings" not in self.provides:
            return None
        accepted = self._accepted(inputs)
        return self._row_head.read(
            lambda: self.model(**accepted), lambda hidden, head: make(head.rows(rows.of(hidden)))
        )

    @cached_property
    def _row_head(self) -> RowHead:
        return RowHead(self.model)

    def forget_head(self) -> None:
        """Look for the model's head anew: other modules have taken the places of its own."""
        vars(self).pop("_row_head", None)

    @torch.no_grad()
    def hidden_states(self, inputs: Mapping[str, Any], layers: Sequence[int]) -> dict[int, Tensor]:
        """Return the current revision's outputs of some layers, counted from 1; nothing behind them is computed.

        Of a model that is split over ranks everything is: an engine's hooks must run to the end.

        Shapes: (B, T, H), or (B, H) where the model has no positions.
        """
        # Before the tap, which stands in for the forward whose arguments are read.
        accepted = self._accepted(inputs)
        with layer_tap(unwrapped(self.model), layers, stop=not self.is_split) as outputs:
            self.model(**accepted)
        return dict(outputs)

    @torch.no_grad()
    def read(self, inputs: Mapping[str, Any], *, layers: tuple[int, ...], attentions: bool) -> Reading:
        """Return the current revision's logits, outputs of some layers and attentions, from one forward."""
        accepted = self._accepted(inputs)
        return read_model(
            lambda **more: self.model(**accepted, **more),
            unwrapped(self.model),
            layers=layers,
            attentions=attentions,
            mask=inputs.get("attention_mask"),
        )

    def give_attentions(self) -> None:
        """Make sure that forwards can give attention probabilities.

        Raises:
            ValueError: The teacher runs with an attention that does not compute them one by one.
        """
        given = self.config._attn_implementation
        if given != "eager":
            raise ValueError(
                f"attention probabilities are asked for, which the teacher's {given!r} attention does not give; load "
                'it with attn_implementation="eager"'
            )

    def _accepted(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = {
            key: value for key, value in inputs.items() if key in self.forward_arguments and key not in TARGET_KEYS
        }
        # Keys and values kept for generation would be thrown away, and with them transformers does not see where one
        # text of a flattened batch ends.
        return in_weights_format(given | NO_CACHE if "use_cache" in self.forward_arguments else given, self.model)


def loading_of(dtype: str, quantization: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how weights are changed when they are loaded; empty where they stay as they are stored."""
    given = {"dtype": dtype if dtype != "auto" else None, "quantization": quantization and dict(quantization)}
    return {name: value for name, value in given.items() if value}


def manifest_entry(revision: Revision) -> dict[str, Any]:
    """Return a revision as manifests list it."""
    entry = {key: vars(revision)[key] for key in ("name", "step", "source", "revision", "commit")}
    return entry | ({"members": [manifest_entry(one) for one in revision.members]} if revision.members else {})


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside DistributedDataParallel-like wrappers, for reading (never for calling)."""
    inner = model
    while not isinstance(inner, PreTrainedModel) and isinstance(inner._modules.get("module"), torch.nn.Module):
        inner = inner._modules["module"]  # type: ignore[assignment]
    return inner


def freeze(model: torch.nn.Module) -> None:
    """Put a teacher into eval mode and take its parameters out of autograd."""
    model.eval()
    model.requires_grad_(False)

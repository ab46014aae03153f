"""How near each codec comes to the live teacher on held-out data, and for how many bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hf_distill.cache.codecs import CODECS, Codec
from hf_distill.kernels.head_rows import HeadRows, LogitRows
from hf_distill.kernels.heads import Head as OutputHead
from hf_distill.reading.signals import TOKEN_HEADS, Head, select_rows
from hf_distill.teachers.base import TeacherSource

_CLASS_CODECS: tuple[dict[str, Any], ...] = tuple(
    {"name": "logits", "dtype": dtype} for dtype in ("float32", "bfloat16", "float16")
)
_TOKEN_CODECS: tuple[dict[str, Any], ...] = (
    *_CLASS_CODECS,
    *({"name": "hidden", "dtype": dtype} for dtype in ("float32", "bfloat16", "float16", "int8")),
    *({"name": "top_k", "k": k} for k in (8, 16, 32, 64, 128, 256)),
    {"name": "top_k", "k": 64, "dtype": "float32"},
)


@dataclass(frozen=True, kw_only=True)
class CodecFigures:
    """What one codec costs and loses.

    Attributes:
        codec: With its settings, for people.
        spec: `name` and fields.
        bytes_per_row: As stored; an output layer that is kept once is left out.
        share_of_dense: Of the bytes of bfloat16 logits.
        kl: Mean KL(live teacher ‖ codec) of a row, in nats.
        kl_max: Of the worst row.
        total_variation: Mean of ½ Σ |p − q|: how far the gradient with respect to the student's logits is off at most.
        kl_per_byte: `kl` divided by `bytes_per_row`.
        on_front: Whether no other codec is both smaller and nearer.
    """

    codec: str
    spec: dict[str, Any]
    bytes_per_row: float
    share_of_dense: float
    kl: float
    kl_max: float
    total_variation: float
    kl_per_byte: float
    on_front: bool


@dataclass(frozen=True, kw_only=True)
class CodecComparison:
    """The codecs side by side.

    Attributes:
        head: What the teacher predicts.
        vocabulary: Width of its logits.
        rows: Held-out rows that were compared.
        revision: Of the teacher.
        entropy: Of the live teacher, mean of a row in nats: what the errors may be measured against.
        figures: One a codec, largest first.
    """

    head: str
    vocabulary: int
    rows: int
    revision: str
    entropy: float
    figures: list[CodecFigures]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def default_codecs(head: Head) -> list[Codec]:
    """Return the codecs that fit a head."""
    specs = _TOKEN_CODECS if head in TOKEN_HEADS else _CLASS_CODECS
    return [CODECS.build(spec, path="codec") for spec in specs]


@torch.no_grad()
def compare_codecs(
    teacher: TeacherSource,
    batches: Iterable[Mapping[str, Any]],
    *,
    head: Head,
    revision: int,
    codecs: Sequence[Codec] | None = None,
) -> CodecComparison:
    """Send held-out rows through each codec and back, and compare them with what the live teacher said.

    Args:
        teacher: Attached.
        batches: Held-out batches, on the teacher's device.
        head: The kind of head.
        revision: Number of the revision that speaks.
        codecs: Those to compare; by default all that fit the head. One that keeps hidden states is left out where
            the teacher's head cannot be split off.

    Raises:
        ValueError: A regression head, which has no distribution; or no row that counts.
    """
    if head == "regression":
        raise ValueError(
            "a regression head has no distribution to compare; its one number is kept by `logits` exactly"
        )
    codecs = list(codecs or default_codecs(head))
    tallies = [_Tally(codec) for codec in codecs]
    teacher.enter(revision)
    rows_seen, entropy, width = 0, 0.0, 0
    for batch in batches:
        rows = select_rows(head, batch)
        inputs = teacher.inputs_of(batch, head=head)
        live = teacher.head_rows(inputs, rows)
        live_RV = live.logits().float()
        log_p_RV = live_RV.double().log_softmax(-1)
        rows_seen, width = rows_seen + len(live_RV), live_RV.shape[-1]
        entropy -= float((log_p_RV.exp() * log_p_RV.clamp(min=-1e9)).sum())
        for tally in tallies:
            tally.add(live, live_RV, log_p_RV)
    if not rows_seen:
        raise ValueError("the held-out batches have no row that counts; check their labels")
    figures = [tally.figures(rows_seen, width) for tally in tallies if tally.seen]
    return CodecComparison(
        head=head,
        vocabulary=width,
        rows=rows_seen,
        revision=teacher.revisions[revision].name,
        entropy=entropy / rows_seen,
        figures=mark_front(sorted(figures, key=lambda one: -one.bytes_per_row)),
    )


class _Tally:
    """Sums of one codec over batches."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.seen = False
        self._bytes = 0
        self._kl = self._variation = self._worst = 0.0

    def add(self, live: HeadRows | LogitRows, live_RV: Tensor, log_p_RV: Tensor) -> None:
        head = None
        if self.codec.reads == "hidden":
            if not isinstance(live, HeadRows):
                return
            head = OutputHead(live.weight_VH, live.bias_V, live.scale, live.softcap)
        self.seen = True
        columns = self.codec.encode(live.hidden_RH if isinstance(live, HeadRows) and head is not None else live_RV)
        self._bytes += sum(column.nbytes for column in columns.values())
        on_device = {name: column.to(live_RV.device) for name, column in columns.items()}
        decoded = self.codec.decode(on_device, vocabulary=live_RV.shape[-1], head=head).logits()
        log_q_RV = decoded.double().log_softmax(-1)
        p_RV = log_p_RV.exp()
        kl_R = (p_RV * (log_p_RV - log_q_RV).masked_fill_(p_RV == 0, 0.0)).sum(-1)
        self._kl += float(kl_R.sum())
        self._worst = max(self._worst, float(kl_R.max()) if len(kl_R) else 0.0)
        self._variation += float((p_RV - log_q_RV.exp()).abs().sum()) / 2

    def figures(self, rows: int, width: int) -> CodecFigures:
        bytes_per_row = self._bytes / rows
        # Rounding may leave a hair below 0.
        kl = max(self._kl / rows, 0.0)
        return CodecFigures(
            codec=self.codec.title(),
            spec={"name": CODECS.name_of(type(self.codec)), **vars(self.codec)},
            bytes_per_row=bytes_per_row,
            share_of_dense=bytes_per_row / (2 * width),
            kl=kl,
            kl_max=max(self._worst, 0.0),
            total_variation=self._variation / rows,
            kl_per_byte=kl / bytes_per_row,
            on_front=False,
        )


def mark_front(figures: Sequence[CodecFigures]) -> list[CodecFigures]:
    """Mark the codecs than which no other is at least as small and as near, and better in one of the two."""

    def beaten(one: CodecFigures) -> bool:
        return any(
            other.bytes_per_row <= one.bytes_per_row
            and other.kl <= one.kl
            and (other.bytes_per_row, other.kl) != (one.bytes_per_row, one.kl)
            for other in figures
        )

    return [CodecFigures(**{**vars(one), "on_front": not beaten(one)}) for one in figures]

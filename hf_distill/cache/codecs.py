"""What is kept of a teacher's row: all logits, the hidden state in front of its head, or the likeliest ids.

Shape legend: R rows, V vocabulary or classes, H width of the hidden states, K ids kept.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hf_distill.cache.bits import pack, packed_bytes, unpack
from hf_distill.kernels.head_rows import HeadRows, LogitRows
from hf_distill.kernels.heads import Head
from hf_distill.registry import Registry

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Columns = Mapping[str, Tensor]
"""What is kept of R rows: tensors with R rows each."""


@dataclass(frozen=True, kw_only=True)
class Codec(ABC):
    """A way of keeping rows; the fields are what a recipe or the command line may set.

    Attributes:
        reads: What is kept: the rows of the logits, or what goes into the output layer.
        up_to_a_constant: Whether logits come back as log-probabilities, so that a row's constant is lost.
        dtype: Of the numbers.
    """

    reads: ClassVar[Literal["logits", "hidden"]] = "logits"
    up_to_a_constant: ClassVar[bool] = False

    dtype: str

    @abstractmethod
    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        """Return what is kept of rows, on the CPU. Shapes: (R, V) or (R, H)."""

    @abstractmethod
    def decode(self, columns: Columns, *, vocabulary: int, head: Head | None) -> HeadRows | LogitRows:
        """Return rows as objectives read them; nothing of the size of the vocabulary is made before they do.

        Args:
            columns: What `encode` returned, on the device.
            vocabulary: V.
            head: The teacher's, where the codec reads hidden states.
        """

    @abstractmethod
    def bytes_per_row(self, *, vocabulary: int, hidden: int) -> int:
        """Return the bytes that one row takes."""

    def title(self) -> str:
        """Return the codec with its settings, for people."""
        return f"{CODECS.name_of(type(self))} {self.dtype}"


CODECS: Registry[Codec] = Registry("codec", Codec)


@CODECS.register("logits")
@dataclass(frozen=True, kw_only=True)
class LogitsCodec(Codec):
    """All logits: bit by bit those of the teacher in its own number format. For classes: few numbers an example."""

    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "number format of the logits"}
    )

    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        return {"logits": rows.to(FLOATS[self.dtype]).cpu()}

    def decode(self, columns: Columns, *, vocabulary: int, head: Head | None) -> LogitRows:
        return LogitRows.of(columns["logits"])

    def bytes_per_row(self, *, vocabulary: int, hidden: int) -> int:
        return vocabulary * FLOATS[self.dtype].itemsize


@CODECS.register("hidden")
@dataclass(frozen=True, kw_only=True)
class HiddenCodec(Codec):
    """What goes into the teacher's output layer; the layer itself is kept once for each revision.

    Divergences over the whole vocabulary are exact up to the number format: 2·H bytes a row in bfloat16. `int8` scales
    each row by its largest number.
    """

    reads: ClassVar[Literal["logits", "hidden"]] = "hidden"

    dtype: Literal["float32", "bfloat16", "float16", "int8"] = field(
        default="bfloat16", metadata={"help": "number format of the hidden states"}
    )

    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        if self.dtype != "int8":
            return {"hidden": rows.to(FLOATS[self.dtype]).cpu()}
        wide = rows.float()
        scale_R = wide.abs().amax(-1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        return {"hidden": (wide / scale_R[:, None]).round().to(torch.int8).cpu(), "scale": scale_R.cpu()}

    def decode(self, columns: Columns, *, vocabulary: int, head: Head | None) -> HeadRows:
        assert head is not None
        hidden_RH = columns["hidden"]
        if self.dtype == "int8":
            hidden_RH = hidden_RH.float() * columns["scale"][:, None]
        return head.rows(hidden_RH.to(head.weight_VH.dtype))

    def bytes_per_row(self, *, vocabulary: int, hidden: int) -> int:
        return hidden + 4 if self.dtype == "int8" else hidden * FLOATS[self.dtype].itemsize


@CODECS.register("top_k")
@dataclass(frozen=True, kw_only=True)
class TopKCodec(Codec):
    """The log-probabilities of the k likeliest ids and the mass of all others, ids packed in ⌈log2 V⌉ bits.

    Read back, a row has its k log-probabilities, and every other id an equal share of the rest: `top_k_kl` with this k
    (or a smaller one) compares the same k + 1 outcomes as with the live teacher, at temperature 1. At another
    temperature the rest's mass is that of an even tail, which is larger than the teacher's above 1 and smaller below.
    Logits come back up to each row's constant, so objectives on raw logits cannot learn from it.
    """

    up_to_a_constant: ClassVar[bool] = True

    k: int = field(default=64, metadata={"help": "how many of the likeliest ids are kept"})
    dtype: Literal["float16", "float32"] = field(
        default="float16", metadata={"help": "number format of the log-probabilities"}
    )

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        log_p_RV = rows.float().log_softmax(-1)
        vocabulary = rows.shape[-1]
        top = log_p_RV.topk(min(self.k, vocabulary), dim=-1)
        rest_R1 = log_p_RV.scatter(-1, top.indices, -math.inf).logsumexp(-1, keepdim=True)
        values = torch.cat([top.values, rest_R1], dim=-1).to(FLOATS[self.dtype])
        return {"values": values.cpu(), "ids": pack(top.indices, limit=vocabulary)}

    def decode(self, columns: Columns, *, vocabulary: int, head: Head | None) -> LogitRows:
        values, ids, kept = columns["values"], columns["ids"], min(self.k, vocabulary)

        def read(start: int, stop: int) -> Tensor:
            top_RK = values[start:stop, :kept].float()
            rest_R1 = values[start:stop, kept:].float() - math.log(max(vocabulary - kept, 1))
            # No other id may be likelier than one that is kept, whatever the rounding.
            even_R1 = torch.minimum(rest_R1, top_RK[:, -1:])
            places_RK = unpack(ids[start:stop], count=kept, limit=vocabulary)
            return even_R1.repeat(1, vocabulary).scatter_(-1, places_RK, top_RK)

        return LogitRows(rows=len(values), width=vocabulary, read=read)

    def bytes_per_row(self, *, vocabulary: int, hidden: int) -> int:
        kept = min(self.k, vocabulary)
        return (kept + 1) * FLOATS[self.dtype].itemsize + packed_bytes(kept, vocabulary)

    def title(self) -> str:
        return f"top_k k={self.k} {self.dtype}"

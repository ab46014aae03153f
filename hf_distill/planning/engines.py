"""What the engines of recipes/accelerate split over processes, and what they keep beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hf_distill.planning.model_size import ModelSize
from hf_distill.wording import did_you_mean

Part = Literal["weights", "gradients", "states"]

LIVE = 10**9
"""Parameters that DeepSpeed's ZeRO-3 keeps together at most, and until they are used again (its own defaults)."""

BUCKET = 5 * 10**8
"""Numbers of a buffer in which DeepSpeed puts gradients together (its default; allocated whole)."""

DDP_BUCKET_BYTES = 25 * 2**20
"""Of gradients that DistributedDataParallel sends together (its default)."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a training is spread over N processes.

    Attributes:
        name: As the launch configuration that starts it.
        splits: What each process holds 1/N of.
        on_cpu: What lies in CPU memory between uses.
        deepspeed: Weights and gradients are in 16 bits, and the optimizer has its own copy in 32.
        overlaps: Gradients are sent while the backward goes on.
    """

    name: str
    splits: frozenset[Part] = frozenset()
    on_cpu: frozenset[Part] = frozenset()
    deepspeed: bool = False
    overlaps: bool = True

    @property
    def file(self) -> str:
        """Name of the launch configuration that starts it in bf16."""
        return f"{self.name}_bf16.yaml" if not self.splits else f"{self.name}.yaml"

    @property
    def splits_weights(self) -> bool:
        """Whether a process has whole layers only while it computes them."""
        return "weights" in self.splits

    @property
    def has_whole_models(self) -> bool:
        """Whether nothing is split, so that a teacher may be lent to the device, or asked about a whole window."""
        return not self.deepspeed and not self.splits_weights

    def share(self, part: Part, gpus: int) -> float:
        """Return the share of weights, gradients or states that one of N GPUs holds between uses."""
        if part in self.on_cpu:
            return 0.0
        return 1.0 / gpus if part in self.splits else 1.0

    def gathered(self, size: ModelSize) -> float:
        """Return the parameters that are whole on each process at a time.

        FSDP2 has two layers together (one computes, the next is on its way), and embeddings and head throughout.
        """
        if not self.splits_weights:
            return 0.0
        if self.deepspeed:
            return min(LIVE, size.parameters)
        outside = size.parameters - size.body
        return min(size.parameters, outside + 2 * size.body / max(size.layers, 1))


_ALL: frozenset[Part] = frozenset({"weights", "gradients", "states"})
_STATES: frozenset[Part] = frozenset({"states"})
_GRADIENTS: frozenset[Part] = frozenset({"gradients", "states"})

ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(name="single"),
        Engine(name="ddp"),
        Engine(name="zero1", splits=_STATES, deepspeed=True, overlaps=False),
        Engine(name="zero2", splits=_GRADIENTS, deepspeed=True, overlaps=False),
        Engine(name="fsdp2", splits=_ALL),
        Engine(name="zero3", splits=_ALL, deepspeed=True),
        Engine(name="zero2_offload", splits=_GRADIENTS, on_cpu=_GRADIENTS, deepspeed=True, overlaps=False),
        Engine(name="fsdp2_offload", splits=_ALL, on_cpu=_ALL),
        Engine(name="zero3_offload", splits=_ALL, on_cpu=_ALL, deepspeed=True),
    )
}
"""By name, the simplest first."""


def engine_named(name: str) -> Engine:
    """Return an engine.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in ENGINES:
        raise ValueError(f"there is no engine {name!r}; known: {', '.join(ENGINES)}.{did_you_mean(name, ENGINES)}")
    return ENGINES[name]

"""Random projections of the teacher's hidden layers and the student's read-outs of them: curriculum extraction.

Gupta and Karmalkar 2025 (arXiv 2503.17494) train the student on random projections of the final teacher's layers,
shallow to deep, before its logits. The paper's dimensions, scaling and read-out are not known to us; what is here is
our instantiation: Gaussian projections to many dimensions, standardised targets, a learned linear read-out.

Shape legend: N positions (or examples), S student width, H teacher width, D dimensions of the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from hf_distill.models.checkpointed_module import CheckpointedModule

_SMALLEST_DEVIATION = 1e-6


class LayerPair(NamedTuple):
    """A student layer and the teacher layer it learns from, both counted from 1."""

    student: int
    teacher: int

    @property
    def key(self) -> str:
        """Name of the pair in a file."""
        return f"{self.student}_{self.teacher}"


class Extractor(CheckpointedModule):
    """Targets and predictions of the extraction stages.

    The target of a teacher state h is (P·h − mean) / deviation with P of shape (D, H) and entries N(0, 1/H), drawn
    from `seed`: it is made again from the seed and the shapes, and never stored. Mean and deviation of each dimension
    come from calibration examples, so that the loss does not depend on how batches are split. The prediction is a
    learned linear read-out of the student's state, or with `readout=False` the state itself (then D = S).

    Args:
        pairs: Layers, in the order of the stages.
        student_width: S, or that of each student layer.
        teacher_width: H, or that of each teacher layer.
        dimensions: D; by default H with a read-out, S without.
        readout: Learn a linear map from the student's state to the target.
        readout_rate: Learning rate of the read-outs ÷ the student's.
        calibration_examples: Training examples that mean and deviation are measured on.
        seed: Of the projections and the read-outs' first weights.

    Raises:
        ValueError: `dimensions` and `readout=False` contradict each other.
    """

    file_name: ClassVar[str] = "extractor.safetensors"
    what: ClassVar[str] = "curriculum extraction"

    def __init__(
        self,
        pairs: Iterable[LayerPair],
        *,
        student_width: int | Mapping[int, int],
        teacher_width: int | Mapping[int, int],
        dimensions: int | None = None,
        readout: bool = True,
        readout_rate: float = 1.0,
        calibration_examples: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.pairs = list(dict.fromkeys(pairs))
        self.readouts = nn.ModuleDict()
        self.readout_rate = readout_rate
        self.calibration_examples = calibration_examples
        self.calibrated = False
        # One stream for all pairs: numbering seeds by pair would share projections between runs of adjacent seeds.
        generator = torch.Generator().manual_seed(seed)
        for pair in self.pairs:
            ours, theirs = _width_of(student_width, pair.student), _width_of(teacher_width, pair.teacher)
            if not readout and dimensions not in (None, ours):
                raise ValueError(
                    f"without a read-out the target has the student's width {ours}, not {dimensions} dimensions; "
                    "leave `dimensions` out or set `readout: true`"
                )
            size = dimensions or (theirs if readout else ours)
            projection = torch.randn(size, theirs, generator=generator) / theirs**0.5
            self.register_buffer(f"projection_{pair.key}", projection, persistent=False)
            self.register_buffer(f"mean_{pair.key}", torch.zeros(size))
            self.register_buffer(f"deviation_{pair.key}", torch.ones(size))
            if readout:
                self.readouts[pair.key] = linear_map(ours, size, generator)

    @property
    def teacher_layers(self) -> list[int]:
        """The teacher's layers that are projected, in ascending order."""
        return sorted({pair.teacher for pair in self.pairs})

    def predict(self, pair: LayerPair, student_NS: Tensor) -> Tensor:
        """Return what the student says of the target. Shapes: (N, S) -> (N, D)."""
        if not self.readouts:
            return student_NS
        return self.readouts[pair.key](student_NS.to(self.get_buffer(f"mean_{pair.key}").dtype))

    def project(self, pair: LayerPair, teacher_NH: Tensor) -> Tensor:
        """Return the projected teacher states, not yet standardised. Shapes: (N, H) -> (N, D)."""
        projection_DH = self.get_buffer(f"projection_{pair.key}")
        return teacher_NH.to(projection_DH.dtype) @ projection_DH.T

    def target(self, pair: LayerPair, teacher_NH: Tensor) -> Tensor:
        """Return the standardised target. Shapes: (N, H) -> (N, D)."""
        mean_D, deviation_D = self.get_buffer(f"mean_{pair.key}"), self.get_buffer(f"deviation_{pair.key}")
        return (self.project(pair, teacher_NH) - mean_D) / deviation_D

    @torch.no_grad()
    def calibrate(self, states: Iterable[dict[int, Tensor]]) -> None:
        """Measure mean and deviation of each target dimension.

        Args:
            states: For each calibration batch the teacher's states (N, H) by layer number.

        Raises:
            ValueError: No states, or states that are not finite.
        """
        sums: dict[str, list[Any]] = {pair.key: [0, 0.0, 0.0] for pair in self.pairs}
        for batch in states:
            for pair in self.pairs:
                projected = self.project(pair, batch[pair.teacher]).double()
                total = sums[pair.key]
                total[0] += len(projected)
                total[1] = total[1] + projected.sum(0)
                total[2] = total[2] + projected.square().sum(0)
        for pair in self.pairs:
            count, first, second = sums[pair.key]
            if count < 2 or not bool(torch.isfinite(second).all()):
                raise ValueError(
                    f"calibration of teacher layer {pair.teacher} saw {count} positions, or states that are not "
                    "finite; check the training data and the teacher"
                )
            mean = first / count
            deviation = (second / count - mean.square()).clamp(min=0).sqrt()
            # A dimension that never varies says nothing; dividing by its deviation would only blow up rounding.
            deviation = torch.where(deviation < _SMALLEST_DEVIATION, torch.ones_like(deviation), deviation)
            self.get_buffer(f"mean_{pair.key}").copy_(mean)
            self.get_buffer(f"deviation_{pair.key}").copy_(deviation)
        self.calibrated = True

    def load(self, folder: str | Path) -> None:
        """Read read-outs and calibration from a checkpoint; raises as `CheckpointedModule.load` does."""
        super().load(folder)
        self.calibrated = True


def _width_of(width: int | Mapping[int, int], layer: int) -> int:
    return width if isinstance(width, int) else width[layer]


def linear_map(student_width: int, dimensions: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear map with PyTorch's usual first weights, drawn from `generator`. Shapes: (N, S) -> (N, D)."""
    linear = nn.Linear(student_width, dimensions, device="meta").to_empty(device="cpu")
    bound = student_width**-0.5
    with torch.no_grad():
        linear.weight.uniform_(-bound, bound, generator=generator)
        linear.bias.uniform_(-bound, bound, generator=generator)
    return linear


def uniform_map(student_layers: int, teacher_layers: int) -> list[LayerPair]:
    """Return student layer i ← teacher layer round(i · L_T / L_S), at least 1, for all student layers."""
    return [
        LayerPair(layer, max(1, round(layer * teacher_layers / student_layers)))
        for layer in range(1, student_layers + 1)
    ]

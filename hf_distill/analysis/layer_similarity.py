"""How alike the layers of two models are: linear CKA of their hidden states on the same inputs.

Kornblith et al. 2019 (arXiv 1905.00414) define it; Nguyen et al. 2021 (arXiv 2010.15327) average an unbiased estimate
over blocks of rows, which is what we do. Shape legend: R rows (attended tokens or examples), N rows of a block,
S and T widths of student and teacher, A and B their numbers of layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hf_distill.analysis.drawing import INK, new_figure, save_figure, style_axes

BLOCK_ROWS = 256
"""Rows of which the inner products are compared at once."""
FEWEST_ROWS = 4
"""The unbiased estimate divides by N (N − 3)."""


class LayerSimilarityInfo(NamedTuple):
    """Linear CKA of each student layer (outer) with each teacher layer (inner); NaN where a layer never varies.

    1 where one is a rotated, scaled and shifted copy of the other, about 0 where they have nothing in common; an
    unbiased estimate may be a little below 0. Comparable between layers on the same rows.
    """

    similarity: tuple[tuple[float, ...], ...]
    rows: int
    """Rows that were compared."""

    def monotone_map(self) -> list[tuple[int, int]]:
        """Return for each student layer the most similar teacher layer that does not lie before the last one chosen.

        Layers are counted from 1; of equally similar ones the shallowest is taken. Greedy from the first layer on:
        our instantiation.

        Raises:
            ValueError: A student layer can be compared with no layer that is left.
        """
        pairs, first = [], 0
        for place, row in enumerate(self.similarity):
            known = [index for index in range(first, len(row)) if math.isfinite(row[index])]
            if not known:
                raise ValueError(
                    f"student layer {place + 1} cannot be compared with the teacher's layers from {first + 1} on: one "
                    "of the two never varies or is not finite; check the models, or give `layers` as pairs"
                )
            first = max(known, key=lambda index: row[index])
            pairs.append((place + 1, first + 1))
        return pairs


class LayerSimilarityTally:
    """Adds up the hidden states of two models over batches, in float64 and without keeping more than a block.

    The estimate depends on the rows and their order, not on how they are split into batches. Rows that fill no block
    count only where there is no whole block.

    Args:
        block_rows: N; with as many as there are rows it is the unbiased CKA of all of them.

    Raises:
        ValueError: `block_rows` is below 4.
    """

    def __init__(self, block_rows: int = BLOCK_ROWS) -> None:
        if block_rows < FEWEST_ROWS:
            raise ValueError(f"block_rows: expected at least {FEWEST_ROWS}, got {block_rows}")
        self._block_rows = block_rows
        self._waiting: tuple[list[Tensor], list[Tensor]] | None = None
        self._cross: Tensor | None = None
        self._own: tuple[Tensor, Tensor] | None = None
        self._rows = 0

    @torch.no_grad()
    def add(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        """Add a batch: the layers of each model, shallow to deep.

        Shapes: each (R, S); each (R, T). Widths may differ between layers.

        Raises:
            ValueError: No layers, or not the same rows throughout.
        """
        shapes = [tuple(layer.shape) for layer in (*student, *teacher)]
        if not student or not teacher or any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
            raise ValueError(f"expected hidden states (rows, width) of the same rows for each layer, got {shapes}")
        models = [list(student), list(teacher)]
        if self._waiting is not None:
            models = [
                [torch.cat(two) for two in zip(before, now, strict=True)]
                for before, now in zip(self._waiting, models, strict=True)
            ]
        while len(models[0][0]) >= self._block_rows:
            self._add_block(*([layer[: self._block_rows] for layer in layers] for layers in models))
            models = [[layer[self._block_rows :] for layer in layers] for layers in models]
        self._waiting = (models[0], models[1])

    def _add_block(self, student: list[Tensor], teacher: list[Tensor]) -> None:
        student_AP, teacher_BP = (torch.stack([_centred_gram(layer) for layer in x]) for x in (student, teacher))
        cross, own = student_AP @ teacher_BP.T, (student_AP.square().sum(1), teacher_BP.square().sum(1))
        self._cross = cross if self._cross is None else self._cross + cross
        self._own = own if self._own is None else (self._own[0] + own[0], self._own[1] + own[1])
        self._rows += len(student[0])

    def info(self) -> LayerSimilarityInfo:
        """Return the similarity over all blocks.

        Raises:
            ValueError: Fewer than 4 rows were added.
        """
        if self._cross is None:
            rows = 0 if self._waiting is None else len(self._waiting[0][0])
            if self._waiting is None or rows < FEWEST_ROWS:
                raise ValueError(f"CKA needs at least {FEWEST_ROWS} rows, got {rows}; add more examples")
            self._add_block(*self._waiting)
            self._waiting = None
        assert self._cross is not None and self._own is not None
        scale = self._own[0].sqrt()[:, None] * self._own[1].sqrt()
        similarity = torch.where(scale > 0, self._cross / scale, math.nan)
        return LayerSimilarityInfo(tuple(tuple(row) for row in similarity.tolist()), self._rows)


def layer_similarity_info(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, block_rows: int = BLOCK_ROWS
) -> LayerSimilarityInfo:
    """Compare hidden states that are in memory; `LayerSimilarityTally` does the same batch by batch.

    Shapes: each (R, S); each (R, T).

    Raises:
        ValueError: As in `LayerSimilarityTally`.
    """
    tally = LayerSimilarityTally(block_rows)
    tally.add(student, teacher)
    return tally.info()


def plot_layer_similarity(
    info: LayerSimilarityInfo, path: str | Path, *, pairs: Sequence[tuple[int, int]] = ()
) -> Path:
    """Draw the similarity of each student layer with each teacher layer.

    Args:
        info: What `layer_similarity_info` returned.
        path: PNG file to write (1050 × 900 pixels).
        pairs: Student and teacher layers to mark, counted from 1, as a layer map has them.
    """
    values = np.array(info.similarity)
    figure = new_figure(1050, 900)
    axes = figure.add_subplot()
    image = axes.imshow(values, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, label="linear CKA")
    axes.set_xticks(range(values.shape[1]), [str(place + 1) for place in range(values.shape[1])])
    axes.set_yticks(range(values.shape[0]), [str(place + 1) for place in range(values.shape[0])])
    for student, teacher in pairs:
        axes.plot(teacher - 1, student - 1, "o", color="white", markeredgecolor=INK, markersize=8)
    style_axes(axes, title="How alike the layers are", x_label="teacher layer", y_label="student layer")
    axes.grid(visible=False)
    return save_figure(figure, path)


def _centred_gram(states_ND: Tensor) -> Tensor:
    """Return the U-centred inner products of rows, flat, whose products estimate HSIC without bias.

    Székely and Rizzo 2014 centre so; the products equal the estimator of Song et al. 2012 that Nguyen et al. use, up
    to a factor that CKA does not see.

    Shapes: (N, D) -> (N · N,).
    """
    centred_ND = states_ND.double() - states_ND.double().mean(0)
    # Only the rounding of the mean is left of a layer that never varies.
    if centred_ND.abs().max() <= 1e-12 * states_ND.abs().max():
        centred_ND = torch.zeros_like(centred_ND)
    gram_NN = centred_ND @ centred_ND.T
    gram_NN.fill_diagonal_(0)
    count = len(gram_NN)
    row_N = gram_NN.sum(0) / (count - 2)
    gram_NN = gram_NN - row_N - row_N[:, None] + gram_NN.sum() / ((count - 1) * (count - 2))
    return gram_NN.fill_diagonal_(0).flatten()

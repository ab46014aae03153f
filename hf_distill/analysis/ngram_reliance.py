"""Whether a language model answers from the nearest tokens or from the rest of the text: M_robust(n) and M_close(n).

Both are distances between two answers for one token, with the whole text and with a part of it hidden. M_robust hides
the n-gram around the token: low means that the model does not need it. M_close hides everything outside of the n-gram:
low means that the model needs nothing else. Source: Panigrahi et al. 2024 (arXiv 2410.05464), for masked models.
Shape legend: B texts, T positions, V vocabulary.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hf_distill.analysis.drawing import new_figure, save_figure, series_colour, step_axis, style_axes
from hf_distill.reading.signals import at_least_float32

NGRAMS = (2, 3, 4, 5)
POSITIONS = tuple(range(30, 421, 30))
"""Where the probes of the paper lie; those beyond a text are left out."""

Predict = Callable[[Tensor, Tensor], Tensor]
"""From input ids (B, T) and an attention mask (B, T) to logits (B, T, V)."""


class Texts(NamedTuple):
    """A batch of whole texts, nothing hidden.

    Shapes: all (B, T); `ordinary` is false at special tokens and padding, which are neither hidden nor asked for.
    """

    ids: Tensor
    attention: Tensor
    ordinary: Tensor


class Distance(NamedTuple):
    """An L1 distance of two answers, Σ|p − q| in [0, 2], over all pairs of a text and a position.

    The paper's figures are medians of the L1 norm; the total variation distance is half of it.
    """

    mean: float
    median: float

    @property
    def total_variation(self) -> Distance:
        """L1/2, in [0, 1]."""
        return Distance(self.mean / 2, self.median / 2)


class NgramReliance(NamedTuple):
    """M_robust(n) and M_close(n) of one model."""

    n: int
    robust: Distance
    close: Distance
    pairs: int
    """Pairs of a text and a position."""


def window(position: int, n: int) -> range:
    """Return the n-gram around a position: n = 2 is [p−1, p], 3 is p±1, 4 is [p−2, p+1], 5 is p±2, as in the paper.

    Raises:
        ValueError: n < 2: there is no n-gram around the position.
    """
    if n < 2:
        raise ValueError(f"n: expected n-grams of at least 2 tokens, got {n}")
    return range(position - n // 2, position + n - n // 2)


@torch.no_grad()
def masked_reliance_info(
    predict: Predict,
    texts: Iterable[Texts],
    *,
    mask_id: int,
    ngrams: Sequence[int] = NGRAMS,
    positions: Sequence[int] = POSITIONS,
    attend_masked: bool = True,
) -> tuple[NgramReliance, ...]:
    """Measure M_robust(n) and M_close(n) of a masked language model.

    The token at the position is always hidden; both distances start from the answer with nothing else hidden.

    Args:
        predict: The model.
        texts: Texts without masks, the same for every model that is compared.
        mask_id: The mask token.
        ngrams: Values of n.
        positions: Where to ask; a position whose largest n-gram touches a special token or padding is left out.
        attend_masked: False also hides masked positions from attention, for models trained so (the paper's PCFG
            models were).

    Raises:
        ValueError: An n below 2, or no position fits any text.

    Source: arXiv 2410.05464. Special tokens stay visible throughout: our choice, the paper does not say.
    """

    def answer(batch: Texts, position: int, hidden_BT: Tensor) -> Tensor:
        hidden_BT = hidden_BT & batch.ordinary
        attention = batch.attention if attend_masked else batch.attention * ~hidden_BT
        return _probabilities(predict(batch.ids.masked_fill(hidden_BT, mask_id), attention)[:, position])

    tally = _Tally(ngrams)
    widest = max(ngrams)
    for batch in texts:
        for position in positions:
            around = window(position, widest)
            if around.start < 0 or around.stop > batch.ids.shape[1]:
                continue
            fits_B = batch.ordinary[:, around.start : around.stop].all(-1)
            if not fits_B.any():
                continue
            rows = Texts(*(values[fits_B] for values in batch))
            only = torch.zeros_like(rows.ordinary)
            only[:, position] = True
            whole = answer(rows, position, only)
            for n in ngrams:
                near = torch.zeros_like(only)
                near[:, window(position, n).start : window(position, n).stop] = True
                robust = _l1(answer(rows, position, near), whole)
                tally.add(n, robust, _l1(answer(rows, position, ~near | only), whole))
    return tally.result()


@torch.no_grad()
def causal_reliance_info(
    predict: Predict,
    texts: Iterable[Texts],
    *,
    ngrams: Sequence[int] = NGRAMS,
    positions: Sequence[int] = POSITIONS,
) -> tuple[NgramReliance, ...]:
    """Measure the analogue of M_robust(n) and M_close(n) for a causal language model; our instantiation.

    The n-gram ends with the token that is asked for: it is that token and the n − 1 before it. A causal model has no
    mask token, so that hiding means something else here. M_close: the model reads these n − 1 tokens as if the text
    began with them. M_robust: they are replaced by those at the same positions of the next text of the batch, tokens
    that are likely by themselves and say nothing about this text. Compare the numbers with those of causal models on
    the same texts in the same batches, not with a masked model's.

    Args:
        predict: The model.
        texts: Batches of at least two texts.
        ngrams: Values of n.
        positions: Of the token that is asked for.

    Raises:
        ValueError: An n below 2, or no position fits any text.
    """
    tally = _Tally(ngrams)
    for batch in texts:
        for position in positions:
            first = position - max(ngrams) + 1
            # One token more than the longest n-gram: else M_robust would leave nothing of this text to read.
            if first < 1 or position >= batch.ids.shape[1]:
                continue
            fits_B = batch.ordinary[:, first : position + 1].all(-1)
            if int(fits_B.sum()) < 2:
                continue
            ids, attention = batch.ids[fits_B, :position], batch.attention[fits_B, :position]
            whole = _last(predict, ids, attention)
            for n in ngrams:
                start = position - n + 1
                swapped = ids.clone()
                swapped[:, start:] = ids.roll(1, 0)[:, start:]
                robust = _l1(_last(predict, swapped, attention), whole)
                tally.add(n, robust, _l1(_last(predict, ids[:, start:], attention[:, start:]), whole))
    return tally.result()


def plot_ngram_reliance(infos: Sequence[Sequence[NgramReliance]], steps: Sequence[int], path: str | Path) -> Path:
    """Draw the medians of M_robust(n) and M_close(n) over the steps of a model's revisions, a line for each n.

    Args:
        infos: What `masked_reliance_info` or `causal_reliance_info` returned for each revision.
        steps: Training step of each revision.
        path: PNG file to write (1200 × 950 pixels).

    Raises:
        ValueError: Not one step for each revision, or no revision.
    """
    if len(infos) != len(steps) or not infos:
        raise ValueError(f"{len(infos)} revisions but {len(steps)} steps: give one of each, and at least one.")
    figure = new_figure(1200, 950)
    above, below = figure.subplots(2, 1, sharex=True)
    for place, of_n in enumerate(zip(*infos, strict=True)):
        colour, label = series_colour(place), f"n = {of_n[0].n}"
        above.plot(steps, [x.robust.median for x in of_n], "-o", color=colour, markersize=3, label=label)
        below.plot(steps, [x.close.median for x in of_n], "-o", color=colour, markersize=3)
    for axes, title in ((above, "M_robust: without the nearest tokens"), (below, "M_close: with nothing else")):
        axes.set_ylim(bottom=0)
        style_axes(axes, title=title, y_label="median L1 distance")
    above.legend(frameon=False, fontsize=8)
    below.set_xlabel("training step")
    step_axis(below)
    return save_figure(figure, path)


class _Tally:
    """The distances found so far, for each n."""

    def __init__(self, ngrams: Sequence[int]) -> None:
        if not ngrams or min(ngrams) < 2:
            raise ValueError(f"ngrams: expected values of n of at least 2, got {list(ngrams)}")
        self._found: dict[int, tuple[list[float], list[float]]] = {n: ([], []) for n in ngrams}

    def add(self, n: int, robust_B: Tensor, close_B: Tensor) -> None:
        """Keep the distances at one position of some texts. Shapes: (B,), (B,)."""
        self._found[n][0].extend(robust_B.tolist())
        self._found[n][1].extend(close_B.tolist())

    def result(self) -> tuple[NgramReliance, ...]:
        """Return mean, median and count for each n, or raise ValueError where nothing was asked."""
        if not all(robust for robust, _ in self._found.values()):
            raise ValueError(
                "no position could be asked: every text is too short, or special tokens are in the way. Choose "
                "smaller `positions` or smaller `ngrams`"
            )
        return tuple(
            NgramReliance(n, _distance(robust), _distance(close), len(robust))
            for n, (robust, close) in self._found.items()
        )


def _distance(values: Sequence[float]) -> Distance:
    return Distance(statistics.fmean(values), statistics.median(values))


def _last(predict: Predict, ids: Tensor, attention: Tensor) -> Tensor:
    return _probabilities(predict(ids, attention)[:, -1])


def _probabilities(logits: Tensor) -> Tensor:
    return at_least_float32(logits).softmax(-1)


def _l1(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).abs().sum(-1)

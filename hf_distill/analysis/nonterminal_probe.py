"""Whether hidden states know the grammar: a linear probe for the non-terminals that each terminal stems from.

Source: Allen-Zhu and Li 2023 (arXiv 2305.13673), in the form that Panigrahi et al. 2024 (arXiv 2410.05464) use.
Shape legend: B sentences, T positions, D width of the states, K heights, H heads, C classes of all heights together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from hf_distill.analysis.drawing import MUTED, new_figure, save_figure, series_colour, series_line_style, style_axes
from hf_distill.reading.signals import IGNORE_INDEX

WARMUP_SHARE = 0.06

Hidden = Callable[[Tensor, Tensor], Tensor]
"""From input ids (B, T) and an attention mask (B, T) to a frozen model's last hidden states (B, T, D)."""


class TreeBatch(NamedTuple):
    """Sentences, nothing hidden, with the ancestors of their terminals.

    Shapes: `ids` and `attention` (B, T); `ancestors` (K, B, T), which of the height's non-terminals, counted from 0,
    and -100 at special tokens and padding.
    """

    ids: Tensor
    attention: Tensor
    ancestors: Tensor


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Size and training of the probe; the defaults are the paper's."""

    heads: int = field(default=16, metadata={"help": "attention heads"})
    position_size: int = field(default=256, metadata={"help": "size of a position's vector, shared by the heads"})
    epochs: int = field(default=4, metadata={"help": "passes over the training sentences"})
    learning_rate: float = field(default=1e-2, metadata={"help": "of Adam; 6 % warm-up, then cosine"})
    seed: int = field(default=0, metadata={"help": "of first weights and order"})

    def __post_init__(self) -> None:
        if self.heads < 1 or self.position_size < self.heads or self.position_size % self.heads:
            raise ValueError(
                f"position_size: expected a multiple of heads = {self.heads}, got {self.position_size}; it is shared"
            )
        if self.epochs < 1:
            raise ValueError(f"epochs: expected at least 1, got {self.epochs}")


class NonterminalProbeInfo(NamedTuple):
    """How often the probe names the right non-terminal, over all terminals of the held-out sentences.

    Compare models on the same sentences with the same settings; `base_rate` is what naming the most frequent
    non-terminal of each height gives.
    """

    heights: tuple[int, ...]
    """In the tree: 1 for the non-terminals right above the terminals."""
    accuracy: tuple[float, ...]
    base_rate: tuple[float, ...]
    terminals: int


class NonterminalProbe(nn.Module):
    """Σ over heads of linear maps of the states, mixed over positions by an attention that sees positions only.

    Head h weighs position k for position i by exp⟨P_hi, P_hk⟩, over attended k. Only non-terminals of a height are
    its classes; the paper's output has 30 a height, of which the others never occur.

    Args:
        width: D.
        positions: Longest T.
        classes: C.
        settings: Heads and the size of a position's vector.
    """

    def __init__(self, width: int, positions: int, classes: int, settings: ProbeSettings) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(settings.seed)
        heads, size = settings.heads, settings.position_size // settings.heads

        def drawn(*shape: int, deviation: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator) * deviation)

        # A position weighs about e⁴ times as much as any other for itself, so that attention can still move away.
        self.places_HTP = drawn(heads, positions, size, deviation=2.0 * size**-0.5)
        self.weight_DHC = drawn(width, heads, classes, deviation=(width * heads) ** -0.5)
        self.bias_C = nn.Parameter(torch.zeros(classes))

    def forward(self, states_BTD: Tensor, attention_BT: Tensor) -> Tensor:
        """Return logits.

        Shapes: (B, T, D), (B, T) -> (B, T, C).
        """
        places = self.places_HTP[:, : states_BTD.shape[1]]
        scores_HTT = places @ places.mT
        weights_HTT = (scores_HTT - scores_HTT.amax(-1, keepdim=True)).exp()
        # The attention is the same for all sentences but for padding, so the sums are normalised afterwards.
        seen_BT = attention_BT.to(states_BTD.dtype)
        values_BTHC = torch.einsum("btd,dhc->bthc", states_BTD * seen_BT[..., None], self.weight_DHC)
        totals_BTH = torch.einsum("hik,bk->bih", weights_HTT, seen_BT).clamp(min=1e-20)
        mixed_BTHC = torch.einsum("hik,bkhc->bihc", weights_HTT, values_BTHC)
        return (mixed_BTHC / totals_BTH[..., None]).sum(2) + self.bias_C


def nonterminal_probe_info(
    hidden: Hidden,
    train: Sequence[TreeBatch],
    held_out: Sequence[TreeBatch],
    *,
    classes: Mapping[int, int],
    settings: ProbeSettings | None = None,
) -> NonterminalProbeInfo:
    """Train a probe on a frozen model's states and ask it for the ancestors in held-out sentences.

    Args:
        hidden: The model.
        train: The probe's training batches; the paper: 10,240 sentences in batches of 64.
        held_out: The paper: 4,096 sentences.
        classes: From a height to its number of non-terminals, in the order of `TreeBatch.ancestors`.
        settings: Of the probe; the paper's by default.

    Raises:
        ValueError: No batches, or ancestors of other heights than `classes`.

    Source: arXiv 2410.05464's code. How its 256 numbers a position serve 16 heads is not said: they share them.
    """
    settings = settings or ProbeSettings()
    if not train or not held_out or any(len(batch.ancestors) != len(classes) for batch in (*train, *held_out)):
        raise ValueError(f"expected batches with ancestors of {len(classes)} heights, to train on and held out")
    probe = _train(hidden, train, list(classes.values()), settings, max(b.ids.shape[1] for b in (*train, *held_out)))
    right, counts = torch.zeros(len(classes)), torch.zeros(len(classes), max(classes.values()))
    terminals = 0
    with torch.no_grad():
        for batch in held_out:
            for place, (logits_RC, answers_R) in enumerate(_answers(probe, hidden, batch, list(classes.values()))):
                right[place] += (logits_RC.argmax(-1) == answers_R).sum().cpu()
                counts[place] += torch.bincount(answers_R, minlength=counts.shape[1]).cpu()
            terminals += len(answers_R)
    if not terminals:
        raise ValueError("the held-out sentences have no terminal")
    return NonterminalProbeInfo(
        heights=tuple(classes),
        accuracy=tuple((right.double() / terminals).tolist()),
        base_rate=tuple((counts.amax(1).double() / terminals).tolist()),
        terminals=terminals,
    )


def plot_nonterminal_probe(infos: Mapping[str, NonterminalProbeInfo], path: str | Path) -> Path:
    """Draw the accuracy over the height, a line for each model, and the base rate.

    Args:
        infos: By the model's name, all of the same heights.
        path: PNG file to write (1200 × 675 pixels).

    Raises:
        ValueError: No model, or models asked for different heights.
    """
    heights = {info.heights for info in infos.values()}
    if len(heights) != 1:
        raise ValueError(f"expected models that were asked for the same heights, got {sorted(heights)}")
    (shown,) = heights
    figure = new_figure(1200, 675)
    axes = figure.add_subplot()
    for place, (name, info) in enumerate(infos.items()):
        colour, style = series_colour(place), series_line_style(place)
        axes.plot(shown, info.accuracy, marker="o", markersize=4, color=colour, linestyle=style, label=name)
    base = next(iter(infos.values())).base_rate
    axes.plot(shown, base, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="most frequent")
    axes.set_xticks(shown)
    axes.set_ylim(top=1.02)
    title = "Which non-terminals can be read off the last hidden layer"
    style_axes(axes, title=title, x_label="height in the tree", y_label="probe's accuracy")
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)


def _train(
    hidden: Hidden, batches: Sequence[TreeBatch], classes: Sequence[int], settings: ProbeSettings, positions: int
) -> NonterminalProbe:
    width = _states(hidden, batches[0]).shape[-1]
    probe = NonterminalProbe(width, positions, sum(classes), settings).to(batches[0].ids.device)
    optimizer = torch.optim.Adam(probe.parameters(), lr=settings.learning_rate)
    steps = settings.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate((step + 1) / steps))
    generator = torch.Generator().manual_seed(settings.seed)
    order = [place for _ in range(settings.epochs) for place in torch.randperm(len(batches), generator=generator)]
    for place in tqdm(order, desc="Probing", unit="batch", leave=False):
        answers = _answers(probe, hidden, batches[place], classes)
        loss = torch.stack([cross_entropy(logits_RC, answers_R) for logits_RC, answers_R in answers]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return probe


def _answers(
    probe: NonterminalProbe, hidden: Hidden, batch: TreeBatch, classes: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    """The probe's logits and the right classes at the terminals, height by height. Shapes: (R, classes), (R,)."""
    logits_BTC = probe(_states(hidden, batch), batch.attention)
    terminal_BT = batch.ancestors[0] != IGNORE_INDEX
    parts = logits_BTC[terminal_BT].split(list(classes), dim=-1)
    return [(part, ancestors[terminal_BT]) for part, ancestors in zip(parts, batch.ancestors, strict=True)]


@torch.no_grad()
def _states(hidden: Hidden, batch: TreeBatch) -> Tensor:
    return hidden(batch.ids, batch.attention).float()


def _rate(progress: float) -> float:
    if progress < WARMUP_SHARE:
        return progress / WARMUP_SHARE
    return 0.5 * (1.0 + math.cos(math.pi * (progress - WARMUP_SHARE) / (1.0 - WARMUP_SHARE)))

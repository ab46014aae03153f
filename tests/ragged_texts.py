"""Texts of different lengths, without padding, and the collator that pads them."""

from __future__ import annotations

import torch
from builders import examples
from torch.nn.utils.rnn import pad_sequence


class Collator:
    """Pads each micro-batch to its own longest text, on one side or on both in turns."""

    def __init__(self, side: str, *, mask: bool = True) -> None:
        self.side, self.mask, self.calls = side, mask, 0

    def __call__(self, rows):
        self.calls += 1
        side = self.side if self.side != "both" else ("left", "right")[self.calls % 2]
        batch = {}
        for key, value in rows[0].items():
            fill = -100 if key == "labels" else 0
            values = [trimmed(key, row) for row in rows]
            padded = pad_sequence if value.dim() else lambda values, **_: torch.stack(values)
            batch[key] = padded(values, batch_first=True, padding_value=fill, padding_side=side)
        return batch if self.mask else {key: value for key, value in batch.items() if key != "attention_mask"}


def trimmed(key: str, row: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return an input of an example without its padding."""
    value, kept = row[key], row["attention_mask"].bool()
    if not value.dim():
        return value
    return value[kept] if len(value) == len(kept) else value[value != -100]


def texts(head: str, *, mask: bool) -> list[dict]:
    """Return texts of 4 to 10 tokens without padding."""
    found = []
    for example in examples(head, count=16):
        kept = example["attention_mask"].bool()
        found.append({key: value[kept] for key, value in example.items() if mask or key != "attention_mask"})
    return found if mask else [{key: value.tolist() for key, value in text.items()} for text in found]

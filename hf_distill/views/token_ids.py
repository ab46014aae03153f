"""Which token ids a view may write, and which positions of a text it may change.

Shape legend: B examples, T positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_distill.reading.signals import IGNORE_INDEX, LABELS_ARE_INPUTS, Head

_SPECIAL_KEYS = ("pad", "bos", "eos", "cls", "sep", "mask", "unk", "decoder_start")


class TokenIds(NamedTuple):
    """The ids below `size` are known to both models; `special` ones are never written or overwritten."""

    size: int = 0
    special: tuple[int, ...] = ()

    @property
    def ordinary(self) -> int:
        """How many ids may be written."""
        return self.size - sum(0 <= token < self.size for token in set(self.special))

    def draw(self, shape: Iterable[int]) -> Tensor:
        """Draw ordinary ids, all equally likely, on the CPU.

        Shapes: as `shape`, int64.

        Raises:
            ValueError: There is none.
        """
        if self.ordinary < 1:
            raise ValueError(
                f"no token id can be drawn: {self.size} ids are known to both models, all of them special. Text views "
                "need models with a vocabulary"
            )
        special = sorted({token for token in self.special if 0 <= token < self.size})
        # The n-th ordinary id is n plus the number of special ids before it.
        before = torch.tensor([token - place for place, token in enumerate(special)], dtype=torch.int64)
        ranks = torch.randint(self.ordinary, tuple(shape))
        return ranks + torch.searchsorted(before, ranks, right=True)

    def is_special(self, ids: Tensor) -> Tensor:
        """Return which ids are special. Shapes: any -> the same, bool."""
        return torch.isin(ids, torch.tensor(self.special, dtype=ids.dtype, device=ids.device))


def token_ids(tokenizer: PreTrainedTokenizerBase | None, *configs: PreTrainedConfig) -> TokenIds:
    """Return what is known of the ids: from the tokenizer, or else from the configurations' own special ids.

    Args:
        tokenizer: The student's, which has been compared with the teacher's.
        *configs: Of both models: padded embeddings may have rows that stand for no token.
    """
    texts = [config.get_text_config().to_dict() for config in configs]
    sizes = [values["vocab_size"] for values in texts if values.get("vocab_size")]
    if tokenizer is not None:
        return TokenIds(min([*sizes, len(tokenizer)]), tuple(sorted(set(tokenizer.all_special_ids))))
    found: set[int] = set()
    for values in texts:
        for key in _SPECIAL_KEYS:
            value = values.get(f"{key}_token_id")
            found.update(value if isinstance(value, list) else [value] if value is not None else [])
    return TokenIds(min(sizes, default=0), tuple(sorted(found)))


def attended_positions(batch: Mapping[str, Any], ids: Tensor) -> Tensor:
    """Return which positions are text and no padding. Shapes: ids (B, T) -> (B, T), bool.

    Raises:
        ValueError: The attention mask has another shape.
    """
    mask = batch.get("attention_mask")
    if mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if mask.shape != ids.shape:
        raise ValueError(
            f"the attention mask has shape {tuple(mask.shape)} and the token ids {tuple(ids.shape)}; text views need "
            "one mark a token"
        )
    return mask.bool()


def free_positions(batch: Mapping[str, Any], ids: Tensor, *, head: Head, known: TokenIds) -> Tensor:
    """Return which positions are context: attended, not special and, where labels are tokens of the text, without one.

    Shapes: ids (B, T) -> (B, T), bool.

    Raises:
        ValueError: As in `attended_positions`.
    """
    free = attended_positions(batch, ids) & ~known.is_special(ids)
    labels = batch.get("labels")
    return free if head not in LABELS_ARE_INPUTS or labels is None else free & (labels == IGNORE_INDEX)


def no_free_position(batch: Mapping[str, Any], ids: Tensor, *, head: Head, known: TokenIds) -> str | None:
    """Return what to do where a batch has no position of context; None where it has one."""
    if bool(free_positions(batch, ids, head=head, known=known).any()):
        return None
    return (
        "every attended token of the first micro-batch is special or has a label, and those stay as they are; label "
        "completions only (their prompts are the context), or use embedding_mixup"
    )

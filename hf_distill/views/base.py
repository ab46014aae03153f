"""What a view is: another micro-batch made from a micro-batch, on which the teacher is run anew and is the target.

Shape legend: B examples, T positions, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, get_args

from torch import Tensor, nn

from hf_distill.reading.signals import Head
from hf_distill.registry import Registry
from hf_distill.views.token_ids import TokenIds

ALL_HEADS: frozenset[Head] = frozenset(get_args(Head))
EXAMPLE_HEADS: frozenset[Head] = frozenset({"classification", "regression"})


class ViewContext(NamedTuple):
    """What a view has to know beside the batch: the kind of head, and the token ids that both models know."""

    head: Head
    ids: TokenIds = TokenIds()


class ModelOfView(NamedTuple):
    """A model that is about to read a view: what messages call it, the module inside its wrapper, its arguments."""

    role: str
    model: nn.Module
    accepted: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class View(ABC):
    """An augmentation of micro-batches; the fields are keys under `views:`.

    Row i of a view belongs to row i of the batch: its labels, mask and counted positions stay, so that a view has as
    many items as the batch. Nothing is drawn but from torch's global CPU generator, which checkpoints keep: a resumed
    run sees the same views. Other micro-batches of the same examples are other views.

    Attributes:
        heads: On which a view means something.
        needs: What the teacher source must be able to do.
        per_model: Whether each model reads the view in its own way (`inputs_for`).
        papers: arXiv ids that the card of a student cites, each in `bibliography.py`.
    """

    heads: ClassVar[frozenset[Head]] = ALL_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.live"})
    per_model: ClassVar[bool] = False
    papers: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def problem(self, batch: Mapping[str, Any], context: ViewContext) -> str | None:
        """Return why nothing of the batch can be changed, with what to do; None where something can.

        Only what no batch of the run would change is a problem: it is asked of the first batch.
        """

    @abstractmethod
    def augment(self, batch: Mapping[str, Any], context: ViewContext) -> dict[str, Any]:
        """Return the view of a batch; the batch and its tensors stay as they are.

        Raises:
            ValueError: The batch has no inputs of this kind.
        """

    def inputs_for(self, batch: Mapping[str, Any], seen_by: ModelOfView) -> dict[str, Any]:
        """Return a view as a model reads it, where models read it in their own ways.

        Raises:
            ValueError: The model cannot read it.
        """
        return dict(batch)


VIEWS: Registry[View] = Registry("view", View)


def batch_tensor(batch: Mapping[str, Any], key: str, *, view: str, instead: str) -> Tensor:
    """Return a tensor of the batch that a view changes.

    Args:
        batch: The batch.
        key: Its name.
        view: Name of the view, for the message.
        instead: What to do where the batch has none.

    Raises:
        ValueError: The batch has none.
    """
    value = batch.get(key)
    if not isinstance(value, Tensor):
        raise ValueError(f"the view {view!r} changes `{key}`, but the batch has {sorted(batch)}; {instead}")
    return value

"""Metrics of entities in tagged sentences, by the library seqeval (Nakayama 2018): as CoNLL's script counts them."""

from __future__ import annotations

from collections.abc import Sequence


def entities(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return precision, recall and F1 of whole entities, and the accuracy of tags; 0 where nothing is to be divided.

    An entity counts as found where its first and last word and its type are right. Tags are read as seqeval reads
    them by default: `I-` of another type, or after `O`, begins an entity too. All entities count alike ("micro").

    Args:
        predictions: Tags such as B-person, one list a sentence.
        references: The same for the truth.

    Raises:
        ValueError: No sentence, or a different number of sentences or tags.
    """
    # Slow to import.
    from seqeval.metrics import accuracy_score
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    _check_tags(predictions, references)
    precision, recall, f1, _ = precision_recall_fscore_support(
        list(references), list(predictions), average="micro", zero_division=0
    )
    shares = {"precision": precision, "recall": recall, "f1": f1}
    shares["tag_accuracy"] = accuracy_score(list(references), list(predictions))
    return {name: float(share) for name, share in shares.items()}


def entities_by_type(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and the number of entities to be found for each type that occurs.

    Args:
        predictions: As for `entities`.
        references: As for `entities`.

    Raises:
        ValueError: As `entities`.
    """
    from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

    _check_tags(predictions, references)
    both = [*references, *predictions]
    # seqeval's order of the types.
    names = sorted({found[0] for found in get_entities([list(tags) for tags in both])})
    columns = precision_recall_fscore_support(list(references), list(predictions), average=None, zero_division=0)
    rows = zip(*columns, strict=True) if names else ()
    keys = ("precision", "recall", "f1", "number")
    return {
        name: {key: float(value) for key, value in zip(keys, row, strict=True)}
        for name, row in zip(names, rows, strict=True)
    }


def _check_tags(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    if not any(len(tags) for tags in references):
        raise ValueError("entities of 0 words are not defined: the evaluation set is empty, or no word is labelled")
    sizes = [[len(tags) for tags in side] for side in (predictions, references)]
    if sizes[0] != sizes[1]:
        place = next((row for row, pair in enumerate(zip(*sizes, strict=False)) if pair[0] != pair[1]), None)
        where = f"; sentence {place} has {sizes[0][place]} and {sizes[1][place]} tags" if place is not None else ""
        raise ValueError(
            f"expected one predicted tag for each, got {len(sizes[0])} and {len(sizes[1])} sentences{where}"
        )

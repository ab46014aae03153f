"""Exact match and F1 of answers as the official evaluation script of SQuAD 1.1 has them (Rajpurkar et al. 2016)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized_answer(text: str) -> str:
    """Return an answer without case, ASCII punctuation, English articles and extra white space, in this order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def answer_exact_match(prediction: str, reference: str) -> float:
    """Return 1 where two answers are the same once normalised, else 0."""
    return float(normalized_answer(prediction) == normalized_answer(reference))


def answer_f1(prediction: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of an answer's words, each as often as it occurs.

    0 without a common word, so also for two answers of which nothing is left (`the` and `a`).
    """
    words, expected = normalized_answer(prediction).split(), normalized_answer(reference).split()
    common = (Counter(words) & Counter(expected)).total()
    return 2 * common / (len(words) + len(expected)) if common else 0.0


def answers(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the mean exact match and F1 over questions, each against its best reference.

    Shares between 0 and 1; the official script prints percentages.

    Args:
        predictions: One answer a question.
        references: The accepted answers of each question.

    Raises:
        ValueError: No question, different numbers of them, or one without an accepted answer.
    """
    if not references or len(predictions) != len(references):
        raise ValueError(
            f"expected one answer for each question and a question at least, got {len(predictions)} answers and "
            f"{len(references)} questions"
        )
    unanswerable = next((place for place, accepted in enumerate(references) if not accepted), None)
    if unanswerable is not None:
        raise ValueError(f"question {unanswerable} has no accepted answer; SQuAD 1.1 has one at least for each")
    return {
        "exact_match": _mean_of_best(answer_exact_match, predictions, references),
        "f1": _mean_of_best(answer_f1, predictions, references),
    }


def _mean_of_best(
    score: Callable[[str, str], float], predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
    pairs = zip(predictions, references, strict=True)
    return fmean(max(score(prediction, reference) for reference in accepted) for prediction, accepted in pairs)

"""Metrics of written texts against references: BLEU and chrF by sacreBLEU (Post 2018), ROUGE by Google's rouge-score.

Scores are on the scale from 0 to 100, as sacreBLEU and summarisation papers print them.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

ROUGES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def sacre_bleu(
    predictions: Sequence[str], references: Sequence[str], *, lowercase: bool = False, tokenize: str = "13a"
) -> dict[str, Any]:
    """Return the corpus BLEU, the length of the texts ÷ that of the references, and sacreBLEU's signature.

    Args:
        predictions: Texts as a reader would see them, neither tokenised nor cut into pieces.
        references: One for each.
        lowercase: Count whatever the case.
        tokenize: How sacreBLEU cuts texts into words: 13a, intl, zh, ja-mecab, char, none, ...

    Raises:
        ValueError: No texts, a different number of references, or sacreBLEU is not installed or has no such
            tokenizer.
    """
    _check(predictions, references, what="BLEU")
    metric = _sacrebleu("BLEU", lowercase=lowercase, tokenize=tokenize)
    found = metric.corpus_score(list(predictions), [list(references)])
    return {
        "bleu": float(found.score),
        "length_ratio": float(found.sys_len) / max(found.ref_len, 1),
        "signature": str(metric.get_signature()),
    }


def chrf(
    predictions: Sequence[str], references: Sequence[str], *, lowercase: bool = False, word_order: int = 0
) -> dict[str, Any]:
    """Return the corpus chrF (chrF++ with `word_order` 2) and sacreBLEU's signature.

    Args:
        predictions: As for `sacre_bleu`.
        references: One for each.
        lowercase: Count whatever the case.
        word_order: Longest n-grams of words beside those of 6 letters.

    Raises:
        ValueError: As `sacre_bleu`.
    """
    _check(predictions, references, what="chrF")
    metric = _sacrebleu("CHRF", lowercase=lowercase, word_order=word_order)
    found = metric.corpus_score(list(predictions), [list(references)])
    return {"chrf": float(found.score), "signature": str(metric.get_signature())}


def rouge(predictions: Sequence[str], references: Sequence[str], *, use_stemmer: bool = True) -> dict[str, float]:
    """Return the mean F1 of ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum, whose sentences are divided by line breaks.

    Args:
        predictions: Summaries.
        references: One for each.
        use_stemmer: Cut endings of English words off first (Porter), as papers on CNN/DailyMail and XSum do.

    Raises:
        ValueError: No texts, a different number of references, or rouge-score is not installed.
    """
    _check(predictions, references, what="ROUGE")
    try:
        # Slow to import.
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise _missing("rouge-score") from error
    scorer = RougeScorer(list(ROUGES), use_stemmer=use_stemmer)
    scores = [scorer.score(reference, text) for text, reference in zip(predictions, references, strict=True)]
    return {name: 100.0 * fmean(float(score[name].fmeasure) for score in scores) for name in ROUGES}


def signatures(*, lowercase: bool = False, tokenize: str = "13a") -> dict[str, str]:
    """Return sacreBLEU's signatures of BLEU and chrF with one reference: what others need to compare with.

    Raises:
        ValueError: As `sacre_bleu`.
    """
    text = ["a"]
    return {
        "bleu": sacre_bleu(text, text, lowercase=lowercase, tokenize=tokenize)["signature"],
        "chrf": chrf(text, text, lowercase=lowercase)["signature"],
    }


def _sacrebleu(name: str, **settings: Any) -> Any:
    try:
        # Slow to import.
        import sacrebleu.metrics
    except ImportError as error:
        raise _missing("sacrebleu") from error
    try:
        return {"BLEU": sacrebleu.metrics.BLEU, "CHRF": sacrebleu.metrics.CHRF}[name](**settings)
    except (AssertionError, KeyError, RuntimeError, ImportError) as error:
        raise ValueError(f"sacreBLEU cannot compute {name} with {settings}: {error}") from error


def _missing(package: str) -> ValueError:
    return ValueError(f"{package} is not installed, which these metrics come from; install hf-distill[seq2seq]")


def _check(predictions: Sequence[str], references: Sequence[str], *, what: str) -> None:
    if not references or len(predictions) != len(references):
        raise ValueError(
            f"{what} needs one reference a text, and a text at least, got {len(predictions)} texts and "
            f"{len(references)} references"
        )

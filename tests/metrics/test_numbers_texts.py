"""BLEU, chrF and ROUGE are the libraries' own, on the scale papers print, and say how they were computed."""

from __future__ import annotations

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from hf_distill.metrics.numbers_texts import chrf, rouge, sacre_bleu, signatures

TEXTS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him.", "Ein Test"]
REFERENCES = ["The dog bit the man.", "It was not unexpected.", "The man bit him first.", "ein test"]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("tokenize", ["13a", "intl", "char"])
def test_bleu_is_sacrebleus(lowercase, tokenize):
    found = sacre_bleu(TEXTS, REFERENCES, lowercase=lowercase, tokenize=tokenize)
    theirs = sacrebleu.corpus_bleu(TEXTS, [REFERENCES], lowercase=lowercase, tokenize=tokenize)
    assert found["bleu"] == theirs.score
    assert found["length_ratio"] == theirs.ratio
    assert 0 < found["bleu"] < 100
    assert f"tok:{tokenize}" in found["signature"] and f"case:{'lc' if lowercase else 'mixed'}" in found["signature"]


@pytest.mark.parametrize("word_order", [0, 2])
def test_chrf_is_sacrebleus(word_order):
    found = chrf(TEXTS, REFERENCES, word_order=word_order)
    assert found["chrf"] == sacrebleu.corpus_chrf(TEXTS, [REFERENCES], word_order=word_order).score
    assert f"nw:{word_order}" in found["signature"]


@pytest.mark.parametrize("use_stemmer", [True, False])
def test_rouge_is_the_mean_of_the_librarys_f1(use_stemmer):
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = RougeScorer(names, use_stemmer=use_stemmer)
    scores = [scorer.score(reference, text) for text, reference in zip(TEXTS, REFERENCES, strict=True)]
    found = rouge(TEXTS, REFERENCES, use_stemmer=use_stemmer)
    for name in names:
        assert found[name] == pytest.approx(25 * sum(score[name].fmeasure for score in scores), rel=1e-12)


def test_numbers_worked_out_by_hand_are_met():
    """Two of three words in one order: F1 of words 2/3, of pairs 0; five of six letters."""
    found = rouge(["the cat sat"], ["the dog sat"], use_stemmer=False)
    assert found == pytest.approx({"rouge1": 200 / 3, "rouge2": 0.0, "rougeL": 200 / 3, "rougeLsum": 200 / 3})
    assert sacre_bleu(TEXTS, TEXTS)["bleu"] == pytest.approx(100.0)
    assert chrf(TEXTS, TEXTS)["chrf"] == pytest.approx(100.0)
    assert rouge(TEXTS, TEXTS)["rougeLsum"] == pytest.approx(100.0)


def test_sentences_of_a_summary_are_compared_across_line_breaks():
    text, reference = "the cat sat\non the mat", "on the mat\nthe cat sat"
    found = rouge([text], [reference], use_stemmer=False)
    assert found["rougeLsum"] == pytest.approx(100.0)
    assert found["rougeL"] == pytest.approx(50.0)


def test_a_student_that_writes_nothing_is_no_error():
    assert sacre_bleu(["", ""], ["a b", "c"])["bleu"] == 0.0
    assert sacre_bleu(["", ""], ["a b", "c"])["length_ratio"] == 0.0
    assert chrf([""], ["a"])["chrf"] == 0.0
    assert rouge([""], ["a"])["rouge1"] == 0.0


@pytest.mark.parametrize("score", [sacre_bleu, chrf, rouge])
def test_texts_without_references_are_refused(score):
    with pytest.raises(ValueError, match="needs one reference a text, and a text at least, got 2 texts and 1 refer"):
        score(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="got 0 texts and 0 references"):
        score([], [])


def test_an_unknown_tokenizer_is_named():
    with pytest.raises(ValueError, match=r"sacreBLEU cannot compute BLEU with .*'tokenize': '14b'"):
        sacre_bleu(TEXTS, REFERENCES, tokenize="14b")


def test_signatures_do_not_depend_on_the_texts():
    assert signatures(lowercase=True) == {
        "bleu": sacre_bleu(TEXTS, REFERENCES, lowercase=True)["signature"],
        "chrf": chrf(TEXTS, REFERENCES, lowercase=True)["signature"],
    }

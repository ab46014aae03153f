from __future__ import annotations

import pytest

from hf_distill.metrics.sentence_metrics import of_classes, of_numbers
from hf_distill.tasks.glue_subsets import glue_subsets


def test_no_subset_of_glue_is_missing() -> None:
    assert list(glue_subsets()) == ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]


@pytest.mark.parametrize(
    ("subset", "columns", "classes", "metrics"),
    [
        ("cola", ["sentence"], ["unacceptable", "acceptable"], {"matthews_correlation", "accuracy"}),
        ("sst2", ["sentence"], ["negative", "positive"], {"accuracy"}),
        ("mrpc", ["sentence1", "sentence2"], ["not_equivalent", "equivalent"], {"f1", "accuracy"}),
        ("stsb", ["sentence1", "sentence2"], [], {"pearson", "spearman"}),
        ("qqp", ["question1", "question2"], ["not_duplicate", "duplicate"], {"f1", "accuracy"}),
        ("mnli", ["premise", "hypothesis"], ["entailment", "neutral", "contradiction"], {"accuracy"}),
        ("qnli", ["question", "sentence"], ["entailment", "not_entailment"], {"accuracy"}),
        ("rte", ["sentence1", "sentence2"], ["entailment", "not_entailment"], {"accuracy"}),
        ("wnli", ["sentence1", "sentence2"], ["not_entailment", "entailment"], {"accuracy"}),
    ],
)
def test_a_subset_is_the_hubs(subset: str, columns: list[str], classes: list[str], metrics: set[str]) -> None:
    layout = glue_subsets()[subset]
    assert (list(layout.texts), list(layout.classes), set(layout.metrics)) == (columns, classes, metrics)
    assert metrics <= set(of_classes() if classes else of_numbers())


def test_only_mnli_has_two_held_out_splits() -> None:
    further = {name: layout.further for name, layout in glue_subsets().items() if layout.further}
    assert further == {"mnli": ("validation_mismatched",)}
    assert glue_subsets()["mnli"].validation == "validation_matched"

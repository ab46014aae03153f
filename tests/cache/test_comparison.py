from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from builders import VOCABULARY, examples, tiny_model

from hf_distill.cache.codecs import CODECS
from hf_distill.cache.comparison import CodecFigures, compare_codecs, default_codecs, mark_front
from hf_distill.reading.signals import select_rows
from hf_distill.teachers import LiveTeacher


def batches(head: str, count: int = 12) -> list[dict[str, torch.Tensor]]:
    data = examples(head, count=count)
    joined = {name: torch.stack([item[name] for item in data]) for name in data[0]}
    return [{name: value[start : start + 5] for name, value in joined.items()} for start in range(0, count, 5)]


def live(head: str) -> LiveTeacher:
    teacher = LiveTeacher(tiny_model(head, seed=3))
    teacher.attach(head=head, accelerator=None)
    return teacher


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_exact_codecs_lose_nothing_and_more_bytes_lose_less(head: str) -> None:
    comparison = compare_codecs(live(head), batches(head), head=head, revision=0)
    found = {figure.codec: figure for figure in comparison.figures}
    assert comparison.rows == sum(len(select_rows(head, batch).labels_R) for batch in batches(head))
    assert comparison.vocabulary == VOCABULARY
    assert found["logits float32"].kl < 1e-10
    assert found["hidden float32"].kl < 1e-10
    assert found["hidden bfloat16"].kl < found["hidden int8"].kl * 10
    for small, large in (("top_k k=8 float16", "top_k k=16 float16"), ("top_k k=16 float16", "top_k k=32 float16")):
        assert found[small].kl > found[large].kl
        assert found[small].bytes_per_row < found[large].bytes_per_row
    assert found["hidden bfloat16"].bytes_per_row == 2 * 16
    assert found["logits bfloat16"].share_of_dense == 1.0
    for figure in comparison.figures:
        assert 0 <= figure.kl <= figure.kl_max
        assert 0 <= figure.total_variation <= 1
        # Pinsker's inequality, which the three sums must satisfy together.
        assert figure.total_variation <= (figure.kl / 2) ** 0.5 + 1e-6
        assert figure.kl_per_byte == figure.kl / figure.bytes_per_row


def test_the_divergence_is_that_of_the_definition() -> None:
    """Two independent ways to the same number."""
    teacher, (batch, *_) = live("masked_lm"), batches("masked_lm")
    codec = CODECS.build({"name": "top_k", "k": 3, "dtype": "float32"}, path="codec")
    (figure,) = compare_codecs(teacher, [batch], head="masked_lm", revision=0, codecs=[codec]).figures
    p = teacher.row_logits(batch, select_rows("masked_lm", batch)).double().softmax(-1)
    top = p.topk(3)
    rest = (1 - top.values.sum(-1, keepdim=True)) / (VOCABULARY - 3)
    q = rest.repeat(1, VOCABULARY).scatter(-1, top.indices, top.values)
    kl = (p * (p / q).log()).sum(-1)
    assert figure.kl == pytest.approx(float(kl.mean()), rel=1e-4)
    assert figure.kl_max == pytest.approx(float(kl.max()), rel=1e-4)
    assert figure.total_variation == pytest.approx(float((p - q).abs().sum(-1).mean() / 2), rel=1e-4)


def test_entropy_is_what_errors_are_measured_against() -> None:
    teacher, (batch, *_) = live("masked_lm"), batches("masked_lm")
    comparison = compare_codecs(teacher, [batch], head="masked_lm", revision=0)
    p = teacher.row_logits(batch, select_rows("masked_lm", batch)).double().softmax(-1)
    assert comparison.entropy == pytest.approx(float(-(p * p.log()).sum(-1).mean()), rel=1e-5)


def test_classes_have_the_codecs_of_classes() -> None:
    comparison = compare_codecs(live("classification"), batches("classification"), head="classification", revision=0)
    assert [figure.codec for figure in comparison.figures] == ["logits float32", "logits bfloat16", "logits float16"]
    assert comparison.figures[0].bytes_per_row == 12
    assert comparison.rows == 12


def test_hidden_states_are_left_out_where_there_are_none() -> None:
    comparison = compare_codecs(
        live("classification"),
        batches("classification"),
        head="classification",
        revision=0,
        codecs=default_codecs("masked_lm"),
    )
    assert not [figure for figure in comparison.figures if figure.codec.startswith("hidden")]


def test_the_result_is_plain_data() -> None:
    comparison = compare_codecs(live("classification"), batches("classification"), head="classification", revision=0)
    again = json.loads(json.dumps(comparison.to_dict()))
    assert again["figures"][0]["spec"] == {"name": "logits", "dtype": "float32"}
    assert again["revision"] == "final"


@pytest.mark.parametrize(("head", "said"), [("regression", "no distribution"), ("masked_lm", "no row that counts")])
def test_what_has_nothing_to_compare_is_refused(head: str, said: str) -> None:
    data = batches(head)
    if head == "masked_lm":
        data = [{**batch, "labels": torch.full_like(batch["labels"], -100)} for batch in data]
    with pytest.raises(ValueError, match=said):
        compare_codecs(live(head), data, head=head, revision=0)


def test_a_codec_is_on_the_front_where_no_other_is_smaller_and_nearer() -> None:
    base = CodecFigures(
        codec="",
        spec={},
        bytes_per_row=1,
        share_of_dense=1,
        kl=1,
        kl_max=1,
        total_variation=1,
        kl_per_byte=1,
        on_front=False,
    )
    figures = [
        replace(base, bytes_per_row=size, kl=kl) for size, kl in ((9, 0.1), (9, 0.2), (5, 0.2), (4, 0.2), (1, 3))
    ]
    assert [figure.on_front for figure in mark_front(figures)] == [True, False, False, True, True]

"""Attention KL: the definition with loops in numpy, head by head or the mean, and models that can give attentions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from builders import bert_config, tiny_model
from feature_cases import LENGTHS, attentions, positions, values_of
from image_models import resnet_config
from transformers import SwinConfig

from hf_distill.objectives import AttentionKL


def eager(**overrides):
    return bert_config(attn_implementation="eager", **overrides)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


def by_loops(student: np.ndarray, teacher: np.ndarray) -> list[float]:
    found = []
    for example, query in positions():
        keys = LENGTHS[example]
        heads = [
            divergence(teacher[example, head, query, :keys], student[example, head, query, :keys])
            for head in range(student.shape[1])
        ]
        found.append(sum(heads) / len(heads))
    return found


def test_it_is_the_definition():
    student, teacher = attentions(3, seed=1), attentions(3, seed=2)
    values = values_of("attention_kl", student, teacher)
    assert values.tolist() == pytest.approx(by_loops(student.numpy(), teacher.numpy()), rel=1e-12, abs=1e-15)


def test_the_mean_over_heads_compares_two_and_four():
    student, teacher = attentions(2, seed=1), attentions(4, seed=2)
    values = values_of("attention_kl", student, teacher, over_heads="mean")
    means = [side.numpy().mean(1, keepdims=True) for side in (student, teacher)]
    assert values.tolist() == pytest.approx(by_loops(*means), rel=1e-12, abs=1e-15)


def test_an_even_student_costs_the_logarithm_of_the_keys_less_the_teachers_entropy():
    teacher = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]], dtype=torch.float64)
    values = values_of("attention_kl", torch.full_like(teacher, 0.5), teacher, torch.ones(1, 2))
    assert values.tolist() == pytest.approx([math.log(2.0), 0.0], rel=1e-14, abs=1e-15)


def test_a_future_that_neither_model_sees_adds_nothing():
    causal = torch.ones(5, 5).tril().bool()
    student, teacher = (
        torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        .masked_fill(~causal, -torch.inf)
        .softmax(-1)
        for seed in (1, 2)
    )
    values = values_of("attention_kl", student, teacher)
    assert values.isfinite().all()
    assert values[0].item() == 0.0  # the first position sees itself alone


def test_a_student_without_probability_where_the_teacher_has_some_is_finite():
    student = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    values = values_of("attention_kl", student, student.flip(-1), torch.ones(1, 2))
    assert values.tolist() == pytest.approx([-math.log(torch.finfo(torch.float32).tiny)] * 2, rel=1e-6)


def test_other_numbers_of_heads_are_refused_with_the_ways_out():
    models = eager(num_attention_heads=2), eager(num_attention_heads=4)
    with pytest.raises(ValueError, match="student has 2 heads and the teacher 4; set `over_heads: mean`"):
        AttentionKL().check_models(*models)
    with pytest.raises(ValueError, match="student has 2 heads and the teacher 4"):
        values_of("attention_kl", attentions(2), attentions(4))
    assert AttentionKL(over_heads="mean").check_models(*models) is None


def test_a_student_whose_attention_gives_no_probabilities_is_refused():
    with pytest.raises(ValueError, match=r"the student\'s \'sdpa\' attention does not give; load it with attn_impl"):
        AttentionKL().check_models(tiny_model("masked_lm").config, eager())


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropout_of_attentions_is_refused_because_it_is_in_what_is_compared(dropout):
    with pytest.raises(ValueError, match=rf"dropout \{{'attention_probs_dropout_prob': {dropout}\}}.*set it to 0"):
        AttentionKL().check_models(eager(attention_probs_dropout_prob=dropout), eager())


@pytest.mark.parametrize("config", [resnet_config(), SwinConfig()], ids=["none", "one number a stage"])
def test_a_model_without_one_attention_over_all_positions_is_refused(config):
    for models in ((config, eager()), (eager(), config)):
        with pytest.raises(ValueError, match=f"which {type(config).__name__} does not have; compare its layers by"):
            AttentionKL().check_models(*models)

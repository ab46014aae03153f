"""Models of one architecture have one shape whatever they learned; a batch is timed at the size asked for."""

from __future__ import annotations

import pytest
import torch
from builders import examples, tiny_model
from torch.utils.data import default_collate

from hf_distill.evaluation.cost import parameters_of, shape_of, timing_environment, timings_of
from hf_distill.evaluation.record import EvaluationSettings

SETTINGS = EvaluationSettings(batch_sizes=(1, 3), length=20, repeats=4, warmup=1)


def test_shape_is_the_architecture_and_not_the_weights_or_the_names_of_labels():
    first, second = tiny_model("classification", seed=0), tiny_model("classification", seed=1)
    second.config.id2label = {0: "a", 1: "b", 2: "c"}
    assert shape_of(first) == shape_of(second)
    assert shape_of(first) != shape_of(tiny_model("classification", num_hidden_layers=1))
    assert shape_of(first) != shape_of(tiny_model("masked_lm"))
    assert shape_of(first) != shape_of(second.to(torch.bfloat16))


def test_tied_parameters_count_once():
    model = tiny_model("masked_lm")
    untied = sum(tensor.numel() for tensor in model.state_dict().values())
    assert parameters_of(model) < untied


@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
def test_every_batch_size_is_timed_at_the_length_asked_for(head):
    timings = timings_of(tiny_model(head), default_collate(examples(head)), SETTINGS, shape="s", name="m")
    assert [(timing.batch_size, timing.length, timing.repeats) for timing in timings] == [(1, 20, 4), (3, 20, 4)]
    for timing in timings:
        first, third = timing.quartile_seconds
        assert 0 < timing.low_seconds <= first <= timing.median_seconds <= third <= timing.high_seconds
        assert timing.examples_per_second == pytest.approx(timing.batch_size / timing.median_seconds)


def test_a_length_beyond_the_models_positions_is_refused_before_it_is_run():
    settings = EvaluationSettings(batch_sizes=(1,), length=33)
    with pytest.raises(ValueError, match=r"length: m reads 32 positions, but 33 are asked for"):
        timings_of(tiny_model("masked_lm"), default_collate(examples("masked_lm")), settings, shape="s", name="m")


def test_the_environment_says_what_decides_a_timing():
    found = timing_environment(torch.device("cpu"))
    assert found == {"device": "cpu", "torch_threads": torch.get_num_threads(), "torch": torch.__version__}

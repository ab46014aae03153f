"""A run that is launched with DeepSpeed is trained by it, or refused with the reason before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import distill_config
from engines import zero_settings

from hf_distill.training.launched import check_deepspeed_trains


@pytest.fixture
def a_gpu_for_deepspeed() -> Iterator[None]:
    """What DeepSpeed finds on a machine with a GPU."""
    from deepspeed.accelerator import get_accelerator, set_accelerator
    from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator

    before = get_accelerator()
    set_accelerator(CUDA_Accelerator())
    yield
    set_accelerator(before)


def test_an_environment_that_turns_deepspeed_off_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(ValueError, match=r"with ACCELERATE_USE_CPU in .* without DeepSpeed\. Unset .* or launch w"):
        check_deepspeed_trains(use_cpu=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    assert check_deepspeed_trains(use_cpu=False) is None


@pytest.mark.deepspeed
def test_deepspeed_on_a_gpu_is_refused_where_batches_stay_on_the_cpu(a_gpu_for_deepspeed: None) -> None:
    with pytest.raises(ValueError, match=r"use_cpu: true .* the student on cuda\. Leave use_cpu out, set DS_ACC"):
        check_deepspeed_trains(use_cpu=True)
    assert check_deepspeed_trains(use_cpu=False) is None


@pytest.mark.deepspeed
def test_arguments_are_refused_where_deepspeed_would_not_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert distill_config(tmp_path, deepspeed=zero_settings(3)).deepspeed_plugin is not None
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert distill_config(tmp_path).deepspeed_plugin is None
    with pytest.raises(ValueError, match="ACCELERATE_USE_CPU"):
        distill_config(tmp_path, deepspeed=zero_settings(3))

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, DistributedType
from source_cases import CASES
from transformers.integrations.deepspeed import (
    is_deepspeed_zero3_enabled,
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)

from hf_distill.teachers.sharding import (
    is_in_pieces,
    loading_whole,
    refuse_sharding,
    refuse_split_weights,
    split_over_ranks,
    splits_weights,
    whole_numel,
)


@pytest.mark.parametrize("engine", [DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM])
@pytest.mark.parametrize("what", ["teacher", "curriculum"])
def test_an_engine_that_splits_models_is_refused_with_the_reason(engine, what):
    reason = rf"this {what} needs .* on every rank \(because of that\), but {engine.value} splits .* another {what}"
    with pytest.raises(ValueError, match=reason):
        refuse_sharding(SimpleNamespace(distributed_type=engine), "because of that", what=what)


def test_whole_models_are_not_refused():
    for engine in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        assert refuse_sharding(SimpleNamespace(distributed_type=engine), "no reason") is None
    assert refuse_sharding(Accelerator(cpu=True), "no reason") is None
    assert refuse_sharding(None, "no reason") is None


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.of_student or case.name == "ladder"], ids=lambda case: case.name
)
def test_teachers_that_need_whole_models_refuse_it_before_anything_else(case, tmp_path):
    sharded = SimpleNamespace(distributed_type=DistributedType.FSDP)
    with pytest.raises(ValueError, match="needs whole models on every rank"):
        case.build(tmp_path).attach(head="classification", accelerator=sharded)


def test_a_part_of_a_teacher_is_not_taken_for_a_teacher():
    model = torch.nn.Linear(2, 2)
    assert refuse_split_weights(model) is None
    assert not is_in_pieces(model)
    model.bias.ds_tensor = torch.zeros(1)  # How DeepSpeed marks a parameter of which a rank has a part.
    assert is_in_pieces(model)
    with pytest.raises(ValueError, match=r"loaded while ZeRO-3 was on.*pass its folder or id"):
        refuse_split_weights(model)


class Zero3:
    """As much of transformers' DeepSpeed configuration as `from_pretrained` asks for."""

    def is_zero3(self) -> bool:
        return True


@pytest.mark.parametrize("stage", [2, 3])
def test_loading_leaves_zero3_on_and_teachers_whole(stage):
    config = Zero3()
    plugin = SimpleNamespace(zero_stage=stage, hf_ds_config=config)
    state = SimpleNamespace(deepspeed_plugin=plugin)
    accelerator = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED, state=state)
    set_hf_deepspeed_config(config)
    try:
        with pytest.raises(KeyError), loading_whole(accelerator):
            assert is_deepspeed_zero3_enabled() == (stage != 3)
            raise KeyError
        assert is_deepspeed_zero3_enabled()
    finally:
        unset_hf_deepspeed_config()
    with loading_whole(None), loading_whole(Accelerator(cpu=True)):
        assert not is_deepspeed_zero3_enabled()


@pytest.mark.parametrize("efficient", [True, False])
def test_ranks_but_the_first_load_nothing(monkeypatch, efficient):
    """What transformers asks before it leaves a model empty, for FSDP to fill it."""
    name = "FSDP_CPU_RAM_EFFICIENT_LOADING"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv(name, str(efficient))
    plugin = SimpleNamespace(cpu_ram_efficient_loading=efficient)
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.FSDP, state=SimpleNamespace(fsdp_plugin=plugin, deepspeed_plugin=None)
    )
    with pytest.raises(KeyError), loading_whole(accelerator):
        assert os.environ[name] == "False"
        raise KeyError
    assert os.environ[name] == str(efficient)


def training(engine: DistributedType, **state: int) -> SimpleNamespace:
    """As much of an accelerator as tells how an engine treats weights."""
    plugins = {
        "deepspeed_plugin": SimpleNamespace(zero_stage=state.get("stage")),
        "fsdp_plugin": SimpleNamespace(fsdp_version=state.get("version")),
    }
    return SimpleNamespace(distributed_type=engine, state=SimpleNamespace(**plugins))


@pytest.mark.parametrize(
    ("engine", "state", "splits"),
    [
        (DistributedType.NO, {}, False),
        (DistributedType.MULTI_GPU, {}, False),
        (DistributedType.DEEPSPEED, {"stage": 1}, False),
        (DistributedType.DEEPSPEED, {"stage": 2}, False),
        (DistributedType.DEEPSPEED, {"stage": 3}, True),
        (DistributedType.FSDP, {"version": 2}, True),
    ],
)
def test_a_teacher_is_not_split_where_the_student_is_not(engine, state, splits, caplog):
    assert splits_weights(training(engine, **state)) == splits
    if not splits:
        assert split_over_ranks(torch.nn.Linear(2, 2), training(engine, **state)) is None
        assert f"the student is whole on every rank ({engine.value})" in caplog.text


@pytest.mark.parametrize(
    ("engine", "named"), [(DistributedType.FSDP, "FSDP1"), (DistributedType.MEGATRON_LM, "MEGATRON_LM")]
)
def test_an_engine_that_splits_in_another_way_is_refused(engine, named):
    with pytest.raises(
        ValueError, match=f"by FSDP2 or by DeepSpeed's ZeRO-3, and not by {named}; set fsdp_version: 2"
    ):
        splits_weights(training(engine, version=1))


def test_a_piece_is_counted_with_the_size_of_the_whole():
    parameter = torch.nn.Parameter(torch.zeros(0))
    assert whole_numel(parameter) == 0
    parameter.ds_numel = 12
    assert whole_numel(parameter) == 12

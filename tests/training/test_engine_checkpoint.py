"""A checkpoint of another engine, or of another number of processes, is not read in part."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DistributedType
from builders import distill_trainer
from torch.distributed.fsdp import StateDictType

from hf_distill.training.distill_state import DistillState
from hf_distill.training.engine_checkpoint import (
    UNIVERSAL,
    WHOLE,
    Launch,
    check_launch,
    conversion,
    launch_of,
    saves_parts,
    separate_step_counts,
)


def started(engine: DistributedType, processes: int = 2, stage: int = 3, kind: str = "FULL_STATE_DICT") -> Any:
    """What is read of an accelerator that runs an engine."""
    zero = SimpleNamespace(zero_stage=stage, deepspeed_config={})
    fsdp = SimpleNamespace(fsdp_version=2, state_dict_type=StateDictType[kind])
    state = SimpleNamespace(deepspeed_plugin=zero, fsdp_plugin=fsdp)
    return SimpleNamespace(distributed_type=engine, num_processes=processes, state=state)


ZERO3, FSDP, DDP = DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MULTI_GPU


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "latest").write_text("global_step8")
    return tmp_path


def test_the_engine_is_named_as_people_know_it():
    assert launch_of(started(ZERO3)) == ("DeepSpeed ZeRO-3", 2)
    assert launch_of(started(ZERO3, stage=1)) == ("DeepSpeed ZeRO-1", 2)
    assert launch_of(started(FSDP, 4)) == ("FSDP2", 4)
    assert launch_of(started(DistributedType.MEGATRON_LM)) == ("Megatron", 2)
    assert launch_of(started(DDP)) == (WHOLE, 2)
    assert launch_of(Accelerator(cpu=True)) == (WHOLE, 1)


def test_only_fsdp_saves_parts_and_only_where_it_is_told_to():
    assert saves_parts(started(FSDP, kind="SHARDED_STATE_DICT"))
    for other in (started(FSDP), started(ZERO3, kind="SHARDED_STATE_DICT"), Accelerator(cpu=True)):
        assert not saves_parts(other)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, started(ZERO3)),
        (Launch("DeepSpeed ZeRO-3", 2), started(ZERO3)),
        (Launch(WHOLE, 8), started(DDP)),
        (Launch(WHOLE, 2), Accelerator(cpu=True)),
        (Launch("FSDP2", 8), started(FSDP)),
    ],
)
def test_what_an_engine_reads_whole_is_let_through(folder, before, now):
    assert check_launch(before, now, folder) is None


@pytest.mark.parametrize(
    ("before", "now", "names"),
    [
        (Launch("DeepSpeed ZeRO-3", 4), started(DDP), "ZeRO-3 on 4 processes.*whole students on 2 processes"),
        (Launch(WHOLE, 1), started(FSDP), "whole students on 1 process, .*FSDP2 on 2 processes"),
        (Launch("DeepSpeed ZeRO-2", 2), started(ZERO3), "ZeRO-2 on 2 processes.*ZeRO-3 on 2 processes"),
    ],
)
def test_another_engine_is_refused_and_a_way_out_given(folder, before, now, names):
    with pytest.raises(ValueError, match=rf"{names}\. Resume with the launch .*student\.model\.pretrained"):
        check_launch(before, now, folder)


@pytest.mark.parametrize("before", [None, Launch("FSDP2", 2), Launch("FSDP2", 4)])
def test_parts_and_whole_states_of_fsdp_are_not_taken_for_each_other(folder, before):
    parts, whole = started(FSDP, kind="SHARDED_STATE_DICT"), started(FSDP)
    with pytest.raises(ValueError, match=r"with FULL_STATE_DICT, .* read SHARDED_.*; set .*_type: FULL_STATE_DICT"):
        check_launch(before, parts, folder)
    assert check_launch(before, whole, folder) is None
    (folder / "pytorch_model_fsdp_0").mkdir()
    with pytest.raises(ValueError, match=r"with SHARDED_STATE_DICT, .* read FULL_.*; set .*_type: SHARDED_STATE_DICT"):
        check_launch(before, whole, folder)
    assert check_launch(before, parts, folder) is None


def test_deepspeed_on_other_processes_needs_a_converted_checkpoint(folder):
    before, now = Launch("DeepSpeed ZeRO-3", 8), started(ZERO3)
    with pytest.raises(ValueError, match=r"on 8 processes, a part .* has 2\. Convert it(.|\n)*Or start 8") as told:
        check_launch(before, now, folder)
    assert conversion(folder, before.engine) in str(told.value)
    assert now.state.deepspeed_plugin.deepspeed_config == {}
    (folder / UNIVERSAL).write_text("global_step8_universal")
    check_launch(before, now, folder)
    assert now.state.deepspeed_plugin.deepspeed_config == {"checkpoint": {"load_universal": True}}


def test_the_conversion_of_the_first_stages_makes_up_what_they_do_not_write(folder):
    command = conversion(folder, "DeepSpeed ZeRO-3")
    assert command.endswith(f"--input_folder {folder}/global_step8 --output_folder {folder}/global_step8_universal")
    assert conversion(folder, "DeepSpeed ZeRO-2") == f"{command} --inject_missing_state"


def test_groups_of_parameters_do_not_count_each_others_steps():
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.AdamW([{"params": [first]}, {"params": [second]}])
    for parameter in (first, second):
        parameter.grad = torch.ones(2)
    optimizer.step()
    optimizer.state[second]["step"] = optimizer.state[first]["step"]
    separate_step_counts(optimizer)
    optimizer.step()
    assert [optimizer.state[parameter]["step"].item() for parameter in (first, second)] == [2, 2]


def test_a_run_says_how_it_was_started_and_refuses_what_another_engine_left(tmp_path):
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    distill_trainer(tmp_path, **settings).train()
    checkpoint = tmp_path / "checkpoint-1"
    state = DistillState.load(checkpoint)
    assert state.launch == (WHOLE, 1)
    state.engine = "FSDP2"
    state.save(checkpoint)
    with pytest.raises(ValueError, match="was saved with FSDP2 on 1 process"):
        distill_trainer(tmp_path, **settings).train(resume_from_checkpoint=str(checkpoint))


def test_a_checkpoint_from_before_engines_were_noted_is_read(tmp_path):
    state = DistillState(curriculum={"name": "labels"}, revisions=[], switches=[], stalls=[])
    assert state.launch is None

"""What each engine splits, against the launch configurations that start it and DeepSpeed's own defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config import load_config_from_file
from plans import size_of

from hf_distill.planning.engines import BUCKET, ENGINES, LIVE, engine_named

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "accelerate"
STAGES = {"zero1": 1, "zero2": 2, "zero2_offload": 2, "zero3": 3, "zero3_offload": 3}


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_splits_what_its_configuration_does(name):
    engine, config = ENGINES[name], load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert engine.deepspeed == (config.distributed_type == "DEEPSPEED")
    split = 0 if name in ("single", "ddp") else STAGES.get(name, 3)
    assert len(engine.splits) == split
    assert engine.splits_weights == (split == 3)
    assert bool(engine.on_cpu) == name.endswith("_offload")
    if engine.deepspeed:
        settings = config.deepspeed_config
        assert settings["zero_stage"] == split
        assert ("weights" in engine.on_cpu) == (settings["offload_param_device"] == "cpu")


@pytest.mark.parametrize("part", ["weights", "gradients", "states"])
def test_shares_add_up_to_the_whole_or_to_nothing(part):
    for engine in ENGINES.values():
        held = 8 * engine.share(part, 8)
        assert held == (0 if part in engine.on_cpu else 1 if part in engine.splits else 8)


def test_a_small_model_is_whole_under_zero3_and_a_large_one_is_not():
    small, large = size_of(multiplied=10**8), size_of(multiplied=10**10)
    assert ENGINES["zero3"].gathered(small) == 10**8
    assert ENGINES["zero3"].gathered(large) == LIVE
    assert ENGINES["fsdp2"].gathered(large) == 10**10, "of two layers, both"
    assert ENGINES["ddp"].gathered(large) == 0


@pytest.mark.deepspeed
def test_deepspeeds_defaults_are_what_the_memory_is_told_from():
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    config = DeepSpeedZeroConfig(stage=3)
    assert (config.max_live_parameters, config.max_reuse_distance) == (LIVE, LIVE)
    for stage in (1, 2, 3):
        config = DeepSpeedZeroConfig(stage=stage)
        assert config.reduce_bucket_size == BUCKET
        assert config.overlap_comm == ENGINES[f"zero{stage}"].overlaps
        assert config.use_multi_rank_bucket_allreduce


def test_a_typo_is_answered_with_the_nearest_engine():
    with pytest.raises(ValueError, match="Did you mean `fsdp2`"):
        engine_named("fsdp")
    assert engine_named("zero3") is ENGINES["zero3"]

"""Every launch configuration is one that accelerate reads, and starts the engine that its name says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from accelerate import DistributedType
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import (
    FullyShardedDataParallelPlugin,
    patch_environment,
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)
from launched_run import train_launched
from launching import PYTHONPATH, run_forked
from safetensors.torch import load_file
from tiny_recipes import parity_mapping
from torch.distributed.fsdp import CPUOffloadPolicy

from hf_distill.recipe.recipe import Recipe, available_recipes
from hf_distill.run_record import RunRecord

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))


class Expected(NamedTuple):
    """What a configuration starts."""

    engine: str
    precision: str = "bf16"
    stage: int | None = None
    offload: tuple[str, str] = ("none", "none")
    """Where optimizer and weights lie between uses."""


EXPECTED = {
    "single": Expected("NO", "no"),
    "single_bf16": Expected("NO"),
    "ddp": Expected("MULTI_GPU", "no"),
    "ddp_bf16": Expected("MULTI_GPU"),
    "ddp_nodes": Expected("MULTI_GPU"),
    "zero1": Expected("DEEPSPEED", stage=1),
    "zero2": Expected("DEEPSPEED", stage=2),
    "zero2_offload": Expected("DEEPSPEED", stage=2, offload=("cpu", "none")),
    "zero3": Expected("DEEPSPEED", stage=3),
    "zero3_offload": Expected("DEEPSPEED", stage=3, offload=("cpu", "cpu")),
    "fsdp2": Expected("FSDP"),
    "fsdp2_offload": Expected("FSDP", offload=("cpu", "cpu")),
}


def launched(file: Path) -> tuple[Any, dict[str, str]]:
    """The arguments and environment that `accelerate launch --config_file FILE -m hf_distill run x` starts with."""
    words = ["--config_file", str(file), "--main_process_port", "0", "-m", "hf_distill", "run", "x"]
    if file.stem == "ddp_nodes":
        words = ["--main_process_ip", "10.0.0.1", "--machine_rank", "1", *words[:2], *words[4:]]
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        return args, prepare_deepspeed_cmd_env(args)[1]
    if args.multi_gpu or args.use_fsdp:
        return args, prepare_multi_gpu_env(args)
    return args, prepare_simple_launcher_cmd_env(args)[1]


def test_no_configuration_is_left_unchecked() -> None:
    assert {file.stem for file in FILES} == set(EXPECTED)


def test_the_command_line_does_not_list_them_as_recipes() -> None:
    assert not [info.name for info in available_recipes() if info.name.startswith("accelerate")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_starts_the_engine_of_the_name(file: Path) -> None:
    expected = EXPECTED[file.stem]
    config = load_config_from_file(str(file))
    assert config.distributed_type == DistributedType(expected.engine)
    args, environment = launched(file)
    assert environment["ACCELERATE_MIXED_PRECISION"] == expected.precision
    assert (environment.get("ACCELERATE_USE_DEEPSPEED") == "true") == (expected.engine == "DEEPSPEED")
    assert (environment.get("ACCELERATE_USE_FSDP") == "true") == (expected.engine == "FSDP")
    assert args.multi_gpu == (expected.engine == "MULTI_GPU")
    assert args.num_processes == (config.num_processes if expected.engine != "NO" else 1)


@pytest.mark.parametrize("name", ["fsdp2", "fsdp2_offload"])
def test_fsdp_is_the_second_version_wrapped_by_layer(name: str) -> None:
    environment = launched(FOLDER / f"{name}.yaml")[1]
    with patch_environment(**{key: value for key, value in environment.items() if key.startswith("FSDP_")}):
        plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
    assert isinstance(plugin.cpu_offload, CPUOffloadPolicy) == (EXPECTED[name].offload == ("cpu", "cpu"))


@pytest.mark.parametrize("name", [name for name, one in EXPECTED.items() if one.stage is not None])
def test_zero_has_the_stage_of_the_name(name: str) -> None:
    expected, environment = EXPECTED[name], launched(FOLDER / f"{name}.yaml")[1]
    assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == str(expected.stage)
    places = tuple(environment[f"ACCELERATE_DEEPSPEED_OFFLOAD_{what}_DEVICE"] for what in ("OPTIMIZER", "PARAM"))
    assert places == expected.offload
    # A run's accumulation and clipping come from the recipe; said twice, they could differ.
    assert "ACCELERATE_GRADIENT_ACCUMULATION_STEPS" not in environment
    assert "ACCELERATE_GRADIENT_CLIPPING" not in environment


@pytest.mark.deepspeed
@pytest.mark.parametrize("name", [name for name, one in EXPECTED.items() if one.stage is not None])
def test_deepspeed_reads_what_accelerate_hands_over(name: str) -> None:
    from accelerate.utils import DeepSpeedPlugin

    expected, environment = EXPECTED[name], launched(FOLDER / f"{name}.yaml")[1]
    with patch_environment(**{key: value for key, value in environment.items() if "DEEPSPEED" in key}):
        config = DeepSpeedPlugin().deepspeed_config
    zero = config["zero_optimization"]
    assert zero["stage"] == expected.stage
    assert (zero["offload_optimizer"]["device"], zero["offload_param"]["device"]) == expected.offload
    assert zero["stage3_gather_16bit_weights_on_model_save"] == (expected.stage == 3)
    assert config["gradient_accumulation_steps"] == "auto"
    assert config["gradient_clipping"] == "auto"


@pytest.mark.deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("name", ["zero1", "zero2", "zero3", "a file"])
def test_gradients_are_clipped_as_the_recipe_says(name: str, tmp_path: Path) -> None:
    if name == "a file":
        stage, file = 1, tmp_path / "deepspeed.json"
        file.write_text(json.dumps({"zero_optimization": {"stage": stage}, "train_micro_batch_size_per_gpu": "auto"}))
        environment = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}
    else:
        stage, environment = EXPECTED[name].stage, launched(FOLDER / f"{name}.yaml")[1]
    needed = {key: value for key, value in environment.items() if key.startswith("ACCELERATE")}
    (ended,) = run_forked(train_launched, tmp_path, needed, {"max_grad_norm": 0.3}, ranks=1)
    assert ended.code == 0, ended.errors[-3000:]
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["stage"], told["clipping"]) == (stage, 0.3)
    assert min(told["norms"]) > 0.3


@pytest.mark.deepspeed
@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("name", ["zero1", "zero3"])
def test_a_recipe_that_says_nothing_of_precision_runs_as_it_is_launched(name: str, tmp_path: Path) -> None:
    """Features are float32, weights bfloat16, and the teacher is one that this run has trained and stored so."""
    run = {"name": "two_shot", "revision": 40, "steps": 10}
    mapping = parity_mapping(tmp_path / "run", compare={"two_shot": run}, report={"enabled": False})
    for training in (mapping["teacher"]["train"]["training"], mapping["training"]):
        training.update(per_device_train_batch_size=25, max_steps=60)
        del training["use_cpu"]
    Recipe.from_dict(mapping).save(tmp_path / "tiny.yaml")
    launch = ["accelerate.commands.launch", "--config_file", FOLDER / f"{name}.yaml", "--num_processes", 2]
    done = subprocess.run(
        [sys.executable, "-m", *map(str, [*launch, "-m", "hf_distill", "run", tmp_path / "tiny.yaml"])],
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    record = RunRecord.load(tmp_path / "run")
    assert record.environment["processes"] == 2
    assert record.runs[0].final_metrics["accuracy"] > 0.9
    weights = load_file(tmp_path / "run" / record.runs[0].folder / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}


def test_the_page_of_launch_configurations_names_each() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [file.name for file in FILES if f"`{file.name}`" not in text] == []

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from teacher_folders import cut, save_pickled_teacher, save_teacher, save_trainer_checkpoint

from hf_distill.teachers.checkpoint_files import (
    checkpoints_in,
    file_list_problem,
    find_last_whole_checkpoint,
    has_tokenizer,
    pickled_only,
    trainer_checkpoint_problem,
    whole_checkpoint_problem,
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_trainer_checkpoint(tmp_path, 300)


def test_whole_folders_have_no_problem(tmp_path: Path, checkpoint: Path) -> None:
    sharded = save_teacher(tmp_path / "sharded", max_shard_size="3KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert whole_checkpoint_problem(sharded) is None
    assert whole_checkpoint_problem(checkpoint) is None
    assert trainer_checkpoint_problem(checkpoint) is None


def test_half_written_weights_are_found(checkpoint: Path) -> None:
    cut(checkpoint / "model.safetensors", 5000)
    assert "model.safetensors is cut short" in str(whole_checkpoint_problem(checkpoint))
    assert "model.safetensors is cut short" in str(trainer_checkpoint_problem(checkpoint))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file_is_named(name: str, checkpoint: Path) -> None:
    (checkpoint / name).unlink()
    assert name in str(whole_checkpoint_problem(checkpoint))


def test_missing_shard_is_named(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "sharded", max_shard_size="3KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    assert whole_checkpoint_problem(folder) == f"{shard.name} is missing"


def test_shard_of_another_save_is_found_though_it_is_whole(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "sharded", max_shard_size="3KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    save_file({"other": torch.ones(3)}, shard)
    assert f"{shard.name} does not hold" in str(whole_checkpoint_problem(folder))


def test_missing_folder_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    assert whole_checkpoint_problem(tmp_path / "none") == "it is not a folder"
    assert trainer_checkpoint_problem(tmp_path / "none") == "it is not a folder"


def test_pickled_weights_are_refused_with_the_name_of_the_option(tmp_path: Path) -> None:
    folder = save_pickled_teacher(tmp_path / "old")
    assert "allow_pickled_weights" in str(whole_checkpoint_problem(folder))
    assert whole_checkpoint_problem(folder, allow_pickled_weights=True) is None
    cut(folder / "pytorch_model.bin", 3000)
    assert "cut short" in str(whole_checkpoint_problem(folder, allow_pickled_weights=True))


def test_names_alone_tell_what_a_repository_lacks() -> None:
    assert file_list_problem(["config.json", "model.safetensors"]) is None
    assert file_list_problem(["config.json", "model.safetensors.index.json", "pytorch_model.bin"]) is None
    assert file_list_problem(["model.safetensors"]) == "config.json is missing"
    assert "holds no weights" in str(file_list_problem(["config.json", "flax_model.msgpack"]))
    assert "adapter only" in str(file_list_problem(["adapter_model.safetensors", "adapter_config.json"]))
    assert "allow_pickled_weights" in str(file_list_problem(["config.json", "pytorch_model.bin.index.json"]))
    assert file_list_problem(["config.json", "pytorch_model.bin"], allow_pickled_weights=True) is None
    assert pickled_only(["pytorch_model.bin"])
    assert not pickled_only(["pytorch_model.bin", "model.safetensors"])


@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_unfinished_checkpoint_is_not_resumed(name: str, damage: str, checkpoint: Path) -> None:
    path = checkpoint / name
    if damage == "missing":
        path.unlink()
    else:
        cut(path, 0 if damage == "empty" else path.stat().st_size // 2)
    assert name in str(trainer_checkpoint_problem(checkpoint))
    assert whole_checkpoint_problem(checkpoint) is None


def test_run_that_saves_models_only_needs_no_optimizer(checkpoint: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (checkpoint / name).unlink()
    assert trainer_checkpoint_problem(checkpoint, save_only_model=True) is None
    assert trainer_checkpoint_problem(checkpoint) is not None


def test_renamed_checkpoint_of_another_step_is_not_resumed(checkpoint: Path) -> None:
    moved = checkpoint.rename(checkpoint.with_name("checkpoint-400"))
    assert "is of step 300" in str(trainer_checkpoint_problem(moved))


def test_missing_random_state_of_a_rank_is_noticed(checkpoint: Path) -> None:
    (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_0.pth")
    torch.save({}, checkpoint / "rng_state_1.pth")
    assert trainer_checkpoint_problem(checkpoint) is None
    (checkpoint / "rng_state_0.pth").unlink()
    assert "rng_state_0.pth is missing" in str(trainer_checkpoint_problem(checkpoint))


def test_adapter_checkpoint_of_a_student_can_be_resumed(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    (checkpoint / "model.safetensors").rename(checkpoint / "adapter_model.safetensors")
    assert trainer_checkpoint_problem(checkpoint) is None
    cut(checkpoint / "adapter_model.safetensors", 5000)
    assert "adapter_model.safetensors is cut short" in str(trainer_checkpoint_problem(checkpoint))


def test_deepspeed_checkpoint_is_judged_by_its_own_files(checkpoint: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "model.safetensors"):
        (checkpoint / name).unlink()
    states = checkpoint / "global_step300"
    states.mkdir()
    (checkpoint / "latest").write_text("global_step300")
    assert "DeepSpeed states" in str(trainer_checkpoint_problem(checkpoint))
    torch.save({}, states / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert trainer_checkpoint_problem(checkpoint) is None
    cut(states / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", 20)
    assert "cut short" in str(trainer_checkpoint_problem(checkpoint))
    (checkpoint / "latest").write_text("../elsewhere")
    assert "DeepSpeed states" in str(trainer_checkpoint_problem(checkpoint))


def test_missing_deepspeed_states_of_a_rank_are_noticed(checkpoint: Path) -> None:
    (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_0.pth")
    torch.save({}, checkpoint / "rng_state_1.pth")
    (checkpoint / "latest").write_text("global_step300")
    for rank in range(2):
        assert trainer_checkpoint_problem(checkpoint) is not None
        torch_file = checkpoint / "global_step300" / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch_file.parent.mkdir(exist_ok=True)
        torch.save({}, torch_file)
    assert trainer_checkpoint_problem(checkpoint) is None
    torch_file.unlink()
    assert trainer_checkpoint_problem(checkpoint) == "global_step300 holds the DeepSpeed states of 1 of 2 processes"


@pytest.mark.parametrize("what", ["pytorch_model_fsdp", "optimizer"])
def test_fsdp_checkpoint_is_judged_by_its_own_files(checkpoint: Path, what: str) -> None:
    (checkpoint / "optimizer.pt").unlink()
    torch.save({}, checkpoint / "pytorch_model_fsdp.bin")
    assert trainer_checkpoint_problem(checkpoint) == "the optimizer's states of FSDP are missing"
    torch.save({}, checkpoint / "optimizer.bin")
    assert trainer_checkpoint_problem(checkpoint) is None
    (checkpoint / f"{what}.bin").unlink()
    parts = checkpoint / f"{what}_0"
    parts.mkdir()
    (parts / "__0_0.distcp").touch()
    assert trainer_checkpoint_problem(checkpoint) == f"{what}_0 was not finished: its .metadata is missing"
    (parts / ".metadata").touch()
    assert trainer_checkpoint_problem(checkpoint) is None
    (checkpoint / "scheduler.pt").unlink()
    assert "scheduler.pt is missing" in str(trainer_checkpoint_problem(checkpoint))


@pytest.mark.parametrize("name", ["pytorch_model_fsdp.bin", "optimizer.bin"])
def test_fsdp_files_that_were_cut_short_are_seen(checkpoint: Path, name: str) -> None:
    (checkpoint / "optimizer.pt").unlink()
    for one in ("pytorch_model_fsdp.bin", "optimizer.bin"):
        torch.save({}, checkpoint / one)
    cut(checkpoint / name, 20)
    assert f"{name} is cut short" in str(trainer_checkpoint_problem(checkpoint))


def test_checkpoints_are_in_the_order_of_steps_not_of_letters(tmp_path: Path) -> None:
    for step in (1000, 200, 30):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-5").write_text("a file")
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-30", "checkpoint-200", "checkpoint-1000"]
    assert checkpoints_in(tmp_path / "none") == []


def test_resuming_passes_over_a_half_written_checkpoint_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = save_trainer_checkpoint(tmp_path, 90)
    save_trainer_checkpoint(tmp_path, 80)
    (save_trainer_checkpoint(tmp_path, 100) / "trainer_state.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert find_last_whole_checkpoint(tmp_path) == whole
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "checkpoint-100" in caplog.text
    assert "trainer_state.json is missing" in caplog.text


def test_no_checkpoint_to_resume_from_is_none(tmp_path: Path) -> None:
    assert find_last_whole_checkpoint(tmp_path) is None
    assert find_last_whole_checkpoint(tmp_path / "not made yet") is None


def test_tokenizer_is_found_by_any_of_its_files(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "one")
    assert not has_tokenizer(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({}))
    assert has_tokenizer(folder)

"""What may leave the machine: a list of what is let through, so that nothing else ever is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from teacher_folders import cut, save_pickled_teacher, save_teacher, save_trainer_checkpoint

from hf_distill.hub.publishable import is_model_file, model_files, refuse_a_base_of_this_machine

PRIVATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json", ".env", "x.py")


def test_a_checkpoint_gives_its_model_and_nothing_else(tmp_path: Path) -> None:
    folder = save_trainer_checkpoint(tmp_path, 5)
    for name in (*PRIVATE, "readouts.safetensors", "distill_state.json"):
        (folder / name).write_bytes(b"{}") if not (folder / name).exists() else None
    (folder / "tokenizer.json").write_text("{}")
    (folder / "generation_config.json").write_text("{}")
    assert set(model_files(folder)) == {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"}


def test_all_shards_and_their_index_go_and_stale_shards_stay(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "model", max_shard_size="4KB")
    shards = {path.name for path in folder.glob("model-*.safetensors")}
    assert len(shards) > 1
    (folder / "model-00099-of-00099.safetensors").write_bytes(b"old")
    assert set(model_files(folder)) == {"config.json", "model.safetensors.index.json", *shards}


def test_an_adapter_goes_with_its_configuration(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, str(tmp_path / "adapter_model.safetensors"))
    with pytest.raises(ValueError, match=r"adapter_config\.json is missing"):
        model_files(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    assert set(model_files(tmp_path)) == {"adapter_model.safetensors", "adapter_config.json"}


def test_half_written_and_pickled_models_are_refused(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "half")
    cut(folder / "model.safetensors", 100)
    with pytest.raises(ValueError, match=r"cannot be published: model\.safetensors is cut short"):
        model_files(folder)
    with pytest.raises(ValueError, match="pickled weights only"):
        model_files(save_pickled_teacher(tmp_path / "pickled"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model.safetensors", True),
        ("model-00001-of-00002.safetensors", True),
        ("pytorch_model.bin", True),
        ("tokenizer.json", True),
        ("adapter_model.safetensors", True),
        ("README.md", False),
        ("NOTES.md", False),
        ("sub/model.safetensors", False),
        (".gitattributes", False),
    ],
)
def test_another_model_replaces_model_files_at_the_top_only(path: str, expected: bool) -> None:
    assert is_model_file(path) is expected


def test_an_adapter_is_pushed_only_with_a_base_that_others_can_load(tmp_path: Path) -> None:
    config = tmp_path / "adapter_config.json"
    files = {"adapter_model.safetensors": tmp_path / "adapter_model.safetensors", config.name: config}
    for base in (None, str(tmp_path), "./base", "~/base"):
        config.write_text(json.dumps({"base_model_name_or_path": base}))
        with pytest.raises(ValueError, match=r"holds an adapter alone.*export the student `merged`"):
            refuse_a_base_of_this_machine(files)
    config.write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    refuse_a_base_of_this_machine(files)
    assert refuse_a_base_of_this_machine({"model.safetensors": tmp_path}) is None

"""Started by torchrun with an engine's name and a folder: what a training does with teachers that are split in two."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from builders import examples, tiny_model
from engines import assert_engine, engine_config, share_held, whole, whole_weights
from launching import Found, save_found
from safetensors.torch import load_file, save_file
from torch.utils.data import default_collate

from hf_distill import LiveTeacher, ProgressiveDistillTrainer, TeacherSequence
from hf_distill.analysis.latency import first_example, latency_info
from hf_distill.analysis.revision_scores import score_revisions
from hf_distill.teachers import EnsembleTeacher, TeacherSource
from hf_distill.teachers.base import unwrapped
from hf_distill.teachers.pieces import read_pieces
from hf_distill.teachers.sharding import is_in_pieces
from hf_distill.teachers.weight_reading import read_tensors

REVISIONS = (10, 20, 30)
# One output: a row that one rank holds and the other does not. Thirteen examples: an uneven last step, and last batch.
HEAD, EXAMPLES = "regression", 13


def save_revisions(folder: Path) -> Path:
    """Write a teacher's checkpoints: in one file, in several, and with names that transformers has long given up."""
    for step, size in zip(REVISIONS, ("1GB", "4KB", "1GB"), strict=True):
        tiny_model(HEAD, seed=step).save_pretrained(folder / f"checkpoint-{step}", max_shard_size=size)
    file = folder / "checkpoint-30" / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): one
        for name, one in load_file(file).items()
    }
    save_file(old, file, metadata={"format": "pt"})
    return folder


def trainer_of(
    engine: str, folder: Path, head: str, teacher: TeacherSource | None, *, persist: int = 0, **overrides: Any
) -> ProgressiveDistillTrainer:
    settings: dict[str, Any] = {
        "curriculum": "labels" if teacher is None else "one_shot",
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "per_device_eval_batch_size": 2,
        "optim": "adamw_torch",
        "max_grad_norm": 0.5,
        "train_sampling_strategy": "sequential",
        **overrides,
    }
    args = engine_config(engine, folder, **settings)
    if engine == "zero3":
        args.hf_deepspeed_config.config["zero_optimization"]["stage3_param_persistence_threshold"] = persist
    data = examples(head, count=EXAMPLES)
    model = tiny_model(head, seed=1)
    return ProgressiveDistillTrainer(model=model, teacher=teacher, args=args, train_dataset=data, eval_dataset=data)


def count_forwards(teacher: TeacherSource) -> list[int]:
    """Return the list that gets an entry for each forward of an attached teacher's model."""
    seen: list[int] = []
    unwrapped(teacher.model).register_forward_hook(lambda *_: seen.append(1))
    return seen


def ended(trainer: ProgressiveDistillTrainer, engine: str) -> torch.Tensor:
    """Train; return losses and weights."""
    trainer.train()
    assert_engine(trainer, engine)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = whole_weights(trainer.model)
    return torch.cat([torch.tensor(losses).double(), *(weights[name].flatten() for name in sorted(weights))])


def optimized(trainer: ProgressiveDistillTrainer, engine: str) -> torch.Tensor:
    """Return how many numbers the optimizer moves, on all ranks together."""
    if engine == "zero3":
        groups = trainer.model_wrapped.optimizer.fp16_groups
        return torch.tensor(sum(vars(one)["ds_numel"] for group in groups for one in group))
    return torch.tensor(sum(one.numel() for group in trainer.optimizer.param_groups for one in group["params"]))


def of_revisions(engine: str, folder: Path) -> Found:
    """Train through all revisions; enter each of them again, ask it, and read of it what this rank needs."""
    source, found = folder.parent / "teacher", {}
    for kind in ("whole", "sharded"):
        teacher = TeacherSequence(str(source), sharded=kind == "sharded")
        settings = {"curriculum": {"name": "n_shot", "steps": 1}, "save_strategy": "steps", "save_steps": 4}
        trainer = trainer_of(engine, folder / kind, HEAD, teacher, **settings)
        scores = score_revisions(teacher, trainer.get_eval_dataloader(), head=HEAD)
        forwards = count_forwards(teacher)
        found[f"{kind}/ended"] = ended(trainer, engine)
        found[f"{kind}/forwards"] = torch.tensor(len(forwards))
        found[f"{kind}/scores"] = torch.tensor([entry["loss"] for entry in scores])
        found[f"{kind}/optimized"] = optimized(trainer, engine)
    latency = latency_info(teacher.model, first_example(trainer.get_eval_dataloader()))
    model = unwrapped(teacher.model)
    numbers = sum(one.numel() for one in tiny_model(HEAD).parameters())
    assert latency["weight_bytes"] == 4 * numbers
    found |= {"numbers": torch.tensor(numbers), "held": torch.tensor(share_held(model))}
    found["trains"] = torch.tensor(any(one.training for one in teacher.model.modules()))
    found["learns"] = torch.tensor(any(one.requires_grad for one in model.parameters()))
    pieces = teacher._placement.split.pieces
    read = read_pieces(source / "checkpoint-10", pieces).values()
    found["read"] = torch.tensor(sum(one.numbers.numel() for one in read))
    found["file"] = torch.tensor(sum(one.numel() for one in read_tensors(source / "checkpoint-10").values()))
    return found | {f"again/{step}": value for step, value in entered_again(teacher).items()}


def entered_again(teacher: TeacherSource) -> Found:
    """Return how far weights and answers of each revision are from those of the same model, whole."""
    batch = default_collate(examples(HEAD, count=4))
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    found = {}
    for index in (1, 0, 2, 0):
        teacher.enter(index)
        alone = tiny_model(HEAD, seed=REVISIONS[index]).eval()
        with torch.no_grad():
            expected = alone(**inputs).logits
        answers = (teacher.logits(inputs) - expected).abs().max()
        named = dict(unwrapped(teacher.model).named_parameters())
        with whole(list(named.values())) as values:
            theirs = dict(zip(named, values, strict=True))
            weights = max((theirs[name] - one).abs().max() for name, one in alone.named_parameters())
        found[f"{index}"] = torch.stack([answers, weights.detach()])
    return found


def persistent(engine: str, folder: Path) -> Found:
    """Swap weights of which ZeRO-3 leaves every one whole between two forwards, as it does with small ones."""
    teacher = TeacherSequence(str(folder.parent / "teacher"), sharded=True)
    trainer = trainer_of(engine, folder, HEAD, teacher, persist=10_000, curriculum={"name": "n_shot", "steps": 1})
    trainer.train()
    held = torch.tensor(share_held(unwrapped(teacher.model)))
    found = {f"persistent/{index}": value for index, value in entered_again(teacher).items()}
    return {**found, "persistent/held": held}


def live(engine: str, folder: Path) -> Found:
    """Train three students with one teacher in memory, whose head is apart from its embeddings, and its layers."""
    found = {}
    objectives = [{"name": "forward_kl"}, {"name": "hidden_mse", "projector": "linear", "weight": 0.1}]
    for kind in ("whole", "sharded"):
        teacher = LiveTeacher(tiny_model("causal_lm", seed=7, tie_word_embeddings=False), sharded=kind == "sharded")
        for case, settings in {
            "rows": {},
            "layers": {"curriculum": {"name": "one_shot", "objectives": objectives}},
            "bf16": {"bf16": True},
        }.items():
            key = f"live {kind}/{case}"
            found[key] = ended(trainer_of(engine, folder / key, "causal_lm", teacher, **settings), engine)
        found[f"live {kind}/held"] = torch.tensor(share_held(unwrapped(teacher.model)))
    states = teacher.hidden_states({"input_ids": torch.arange(6).view(1, 6)}, [1])
    return {**found, "live/layer": torch.tensor(states[1].shape)}


def in_pieces(folder: Path) -> Found:
    """Use a teacher that ZeRO-3 has split when it was loaded; return how far its answers are from the whole one's."""
    alone = tiny_model(HEAD, seed=10).eval()
    trainer = trainer_of("zero3", folder, HEAD, LiveTeacher(tiny_model(HEAD)))
    trainer.train()
    model = type(alone).from_pretrained(folder.parent / "teacher" / "checkpoint-10")
    assert is_in_pieces(model)
    teacher = LiveTeacher(model, sharded=True)
    assert teacher.revisions[0].commit == LiveTeacher(alone).revisions[0].commit
    teacher.attach(head=HEAD, accelerator=trainer.accelerator)
    batch = default_collate(examples(HEAD, count=4))
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    return {"in pieces": (teacher.logits(inputs) - alone(**inputs).logits.detach()).abs().max()}


def several(engine: str, folder: Path) -> Found:
    """Train with two sharded teachers that answer as one, in another number format than the student's."""
    found = {}
    for kind in ("whole", "sharded"):
        members = [
            TeacherSequence(
                str(folder.parent / "teacher" / f"checkpoint-{step}"), dtype="bfloat16", sharded=kind == "sharded"
            )
            for step in (10, 20)
        ]
        teacher = EnsembleTeacher(members, average="logits")
        found[f"several {kind}/ended"] = ended(trainer_of(engine, folder / kind, HEAD, teacher), engine)
    assert {one.dtype for member in members for one in member.model.parameters()} == {torch.bfloat16}
    return found


def checkpointed(engine: str, folder: Path) -> Found:
    """Return the bytes of a checkpoint's weights and moments, with a sharded teacher and with none at all."""
    trainer = trainer_of(engine, folder / "none", HEAD, None, save_strategy="steps", save_steps=4)
    trainer.train()
    found = {}
    for kind, output in (("none", folder / "none"), ("sharded", folder / "sharded")):
        files = [
            one
            for one in (output / "checkpoint-4").rglob("*")
            if one.suffix in (".pt", ".bin", ".safetensors", ".distcp")
        ]
        found[f"saved/{kind}"] = torch.tensor(sum(one.stat().st_size for one in files))
    return found


def main(engine: str, target: Path) -> None:
    """Run all cases."""
    state = PartialState(cpu=True)
    with state.main_process_first():
        if state.is_main_process:
            save_revisions(target / "teacher")
    found = of_revisions(engine, target / "work")
    state.wait_for_everyone()
    found |= (
        checkpointed(engine, target / "work") | live(engine, target / "live") | several(engine, target / "several")
    )
    if engine == "zero3":
        found |= persistent(engine, target / "persistent") | in_pieces(target / "pieces")
    save_found(found, target)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))

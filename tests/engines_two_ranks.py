"""Started by torchrun: students under an engine that splits them over two CPU processes, their heads in tiles."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from builders import distill_config, examples, tiny_model
from launching import Found, save_found
from safetensors.torch import save_model
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import DistilBertConfig, DistilBertForMaskedLM, LlamaConfig, LlamaForCausalLM

from hf_distill import LiveTeacher, ProgressiveDistillTrainer, TeacherSequence
from hf_distill.teachers import TeacherSource
from hf_distill.teachers.base import unwrapped

ZERO3: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",  # Left out, DeepSpeed clips to 1, whatever `max_grad_norm` says.
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
    "zero_optimization": {
        "stage": 3,
        "reduce_bucket_size": 10_000,
        "stage3_param_persistence_threshold": 0,
        "stage3_prefetch_bucket_size": 0,
    },
}
FSDP2 = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": True}
LAYERS = {"masked_lm": "TransformerBlock", "causal_lm": "LlamaDecoderLayer", "classification": "BertLayer"}

CURRICULA: dict[str, Any] = {
    "forward_kl": {"name": "one_shot", "label_mix": 0.3},
    "two passes": {"name": "one_shot", "intra": {"passes": 2, "alpha": 1.0}},
    "switch": {"name": "two_shot", "revision": "checkpoint-7", "steps": 1},
    "whole logits": {"name": "one_shot", "objectives": [{"name": "forward_kl"}, {"name": "hidden_cosine"}]},
}
CASES = [
    *((head, tied, "forward_kl") for head in ("masked_lm", "causal_lm") for tied in (True, False)),
    ("masked_lm", True, "two passes"),
    ("causal_lm", True, "two passes"),
    ("causal_lm", True, "switch"),
    ("masked_lm", True, "whole logits"),
    ("classification", True, "forward_kl"),
]


def name_of(head: str, tied: bool, curriculum: str) -> str:
    return f"{head}, {'tied' if tied else 'apart'}, {curriculum}"


def model_of(head: str, *, tied: bool, seed: int) -> nn.Module:
    if head == "classification":
        return tiny_model(head, seed=seed)
    torch.manual_seed(seed)
    if head == "masked_lm":
        # BERT's head has its bias under two names, which accelerate's FSDP2 puts into two groups and torch refuses.
        shape = {"vocab_size": 40, "dim": 16, "hidden_dim": 24, "n_heads": 2, "n_layers": 2, "initializer_range": 0.3}
        dropout = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
        return DistilBertForMaskedLM(DistilBertConfig(**shape, **dropout, tie_word_embeddings=tied))
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, tie_word_embeddings=tied, initializer_range=0.3))


def teacher_of(folder: Path, head: str, tied: bool, curriculum: str) -> TeacherSource:
    """Return a model in memory, or for a switch two revisions in a folder of this rank's own."""
    if curriculum != "switch":
        return LiveTeacher(model_of(head, tied=tied, seed=7))
    own = folder / os.environ.get("RANK", "alone")
    for seed in (7, 8):
        # `save_pretrained` writes weights on rank 0 alone.
        model, checkpoint = model_of(head, tied=tied, seed=seed), own / f"checkpoint-{seed}"
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(checkpoint)
        save_model(model, str(checkpoint / "model.safetensors"), metadata={"format": "pt"})
    return TeacherSequence(own)


def trainer_of(
    folder: Path, head: str, tied: bool, curriculum: str, *, engine: str | None, micro_batch: int
) -> ProgressiveDistillTrainer:
    """Build the trainer of two steps of two micro-batches; the same eight examples a step on one process or two."""
    settings: dict[str, Any] = {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": 2}
    if engine == "zero3":
        settings["deepspeed"] = ZERO3
    if engine == "fsdp2":
        settings |= {"fsdp": True, "fsdp_config": {**FSDP2, "transformer_layer_cls_to_wrap": [LAYERS[head]]}}
    student, teacher = model_of(head, tied=tied, seed=1), teacher_of(folder, head, tied, curriculum)
    args = distill_config(folder, curriculum=CURRICULA[curriculum], max_steps=2, **settings)
    if engine == "fsdp2":
        # On a CPU accelerate would train with DistributedDataParallel instead, and say nothing.
        assert args.device.type == "cpu"
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    data = examples(head, count=16)
    return ProgressiveDistillTrainer(model=student, teacher=teacher, args=args, train_dataset=data)


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """Return a parameter that may be split over ranks."""
    if isinstance(parameter, DTensor):
        return parameter.full_tensor()
    if "ds_tensor" in vars(parameter):
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    return parameter


def trained(
    folder: Path, head: str, tied: bool, curriculum: str, **how: Any
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return all weights after training, the losses, and how many positions' logits the student gave at most."""
    trainer = trainer_of(folder, head, tied, curriculum, **how)
    shapes: list[int] = []
    unwrapped(trainer.model).register_forward_hook(
        lambda module, inputs, output: shapes.append(output.logits.shape[:-1].numel())
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    weights = torch.cat([whole(one).detach().flatten().double() for one in unwrapped(trainer.model).parameters()])
    if how["engine"] is not None:
        engine = {"zero3": DistributedType.DEEPSPEED, "fsdp2": DistributedType.FSDP}[how["engine"]]
        assert trainer.accelerator.distributed_type == engine, trainer.accelerator.distributed_type
    return weights, torch.tensor(losses), max(shapes)


def found_under(folder: Path, engine: str | None, *, micro_batch: int) -> Found:
    found: Found = {}
    for case in CASES:
        name = name_of(*case)
        weights, losses, positions = trained(folder / name, *case, engine=engine, micro_batch=micro_batch)
        found |= {f"{name}/weights": weights, f"{name}/losses": losses, f"{name}/positions": torch.tensor(positions)}
    return found


def main(engine: str) -> None:
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    save_found(found_under(target, engine, micro_batch=2), target)

"""Run by torchrun on two ranks: gradients of a model whose head is computed in tiles, in wrappers of engines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from launching import Found, save_found
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM

from hf_distill.kernels import LogitRows, RowLoss, RowTerm, dense_loss, tiled_loss
from hf_distill.kernels.heads import split_head
from hf_distill.objectives import ForwardKL

VOCABULARY = 40
IDS = torch.randint(3, VOCABULARY, (4, 7), generator=torch.Generator().manual_seed(0))
TEACHER = torch.randn(4, 7, VOCABULARY, generator=torch.Generator().manual_seed(1))


def build(tied: bool) -> nn.Module:
    """Make a Llama with fresh weights, the same on every rank."""
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, tie_word_embeddings=tied, initializer_range=0.3))


def sharded(model: nn.Module, *, head_apart: bool) -> nn.Module:
    """Shard layers, perhaps the head, and the rest over both ranks."""
    mesh = init_device_mesh("cpu", (2,))
    for part in [*model.model.layers, *([model.lm_head] if head_apart else []), model]:
        fully_shard(part, mesh=mesh)
    return model


def rank_loss(model: nn.Module, way: Callable[..., RowLoss], examples: slice, ranks: int) -> Tensor:
    """Return this rank's share of the mean over all 28 tokens."""
    teacher, terms = LogitRows.of(TEACHER[examples].flatten(0, 1)), [RowTerm(objective=ForwardKL())]
    return split_head(model).read(
        lambda: model(input_ids=IDS[examples]),
        lambda hidden, head: way(head.rows(hidden.flatten(0, 1)), terms, teacher=teacher, scale=ranks / 28).loss,
    )


def gradients(model: nn.Module, way: Callable[..., RowLoss], examples: slice, ranks: int) -> Tensor:
    """Backpropagate the loss of a rank; return all gradients, flat."""
    rank_loss(model, way, examples, ranks).backward()
    found = [parameter.grad for parameter in model.parameters()]
    return torch.cat([(one.full_tensor() if isinstance(one, DTensor) else one).flatten() for one in found])


def zero3_gradients(tied: bool, examples: slice) -> Tensor:
    """The same with weights, gradients and optimizer states split by DeepSpeed."""
    import deepspeed
    from deepspeed.utils import safe_get_full_grad

    zero = {"stage": 3, "reduce_bucket_size": 10_000, "stage3_param_persistence_threshold": 0}
    optimizer = {"type": "AdamW", "params": {"lr": 0.0, "torch_adam": True}}
    settings = {"train_micro_batch_size_per_gpu": 2, "zero_optimization": zero, "optimizer": optimizer}
    engine, *_ = deepspeed.initialize(
        model=build(tied), config={**settings, "zero_force_ds_cpu_optimizer": False, "gradient_clipping": 0.0}
    )
    engine.backward(rank_loss(engine, tiled_loss, examples, 2))
    return torch.cat([safe_get_full_grad(parameter).flatten() for parameter in engine.module.parameters()])


def main(folder: Path, *, zero3: bool = False) -> None:
    """Compare each wrapper with one process that sees all examples."""
    if zero3:
        import deepspeed

        deepspeed.init_distributed("gloo")
    else:
        torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    own = slice(2 * rank, 2 * rank + 2)
    found: Found = {}
    for tied in (False, True):
        name = "tied" if tied else "apart"
        found[f"alone {name}"] = gradients(build(tied), dense_loss, slice(None), 1)
        found[f"ddp {name}"] = gradients(DistributedDataParallel(build(tied)), tiled_loss, own, 2)
        found[f"fsdp2 {name}"] = gradients(sharded(build(tied), head_apart=False), tiled_loss, own, 2)
        if zero3:
            found[f"zero3 {name}"] = zero3_gradients(tied, own)
    found["fsdp2 own apart"] = gradients(sharded(build(False), head_apart=True), tiled_loss, own, 2)
    save_found(found, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

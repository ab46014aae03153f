"""A teacher split by PyTorch's FSDP2: each layer is put together for its own forward, and taken apart behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from hf_distill.models.fsdp_layout import embeddings_of, layer_classes
from hf_distill.teachers.pieces import Piece, buffer_pieces, by_name, names_by_tensor
from hf_distill.teachers.split_model import SplitModel


class SplitByFsdp2(SplitModel):
    """A teacher that FSDP2 splits, layer by layer, with embeddings and head apart where they are not tied.

    Args:
        model: On the CPU, whole and equal on all ranks; it is frozen. Each rank copies its own rows, so that of
            weights that are mapped into memory no others are read.
        accelerator: Of the training. The student's mesh and its CPU offload are the teacher's too.
    """

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        plugin = accelerator.state.fsdp_plugin
        names = [found for _, found in names_by_tensor(model)]
        buffers = buffer_pieces(model)
        mesh, offload = mesh_of(accelerator), plugin.cpu_offload or OffloadPolicy()
        for unit in [*units_of(model), model]:
            # The root too: nothing comes behind a teacher's forward that would use what stayed whole.
            fully_shard(unit, mesh=mesh, reshard_after_forward=True, offload_policy=offload)
        self.model = model
        parameters = dict(model.named_parameters(remove_duplicate=False))
        self.pieces = by_name([*(_piece(found, parameters) for found in names), *buffers])

    def memory(self) -> dict[str, Tensor]:
        """Take apart what an interrupted forward has left whole, and return where this rank's pieces lie."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        split = {name: local(one) for name, one in self.model.named_parameters(remove_duplicate=False)}
        return {**dict(self.model.named_buffers()), **split}


def mesh_of(accelerator: Accelerator) -> DeviceMesh:
    """Return the ranks that the student is split over."""
    mesh = accelerator.torch_device_mesh
    if mesh is not None:
        return mesh[tuple(accelerator.parallelism_config.fsdp_dim_names)]
    return init_device_mesh(accelerator.device.type, (accelerator.num_processes,))


def units_of(model: nn.Module) -> list[nn.Module]:
    """Return the parts that are put together one at a time, inner ones first.

    They are the layers, the embeddings and the head. One that shares a parameter with the rest of the model is none:
    FSDP2 wants a parameter in one unit only.
    """
    classes, embeddings = layer_classes(model), embeddings_of(model)
    wanted = [module for module in model.modules() if type(module).__name__ in classes or module in embeddings]
    owners: dict[Tensor, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append(module)
    closed = []
    for module in dict.fromkeys(wanted):
        inside = set(module.modules())
        if all(owner in inside for parameter in module.parameters() for owner in owners[parameter]):
            closed.append(module)
    return closed[::-1]


def local(parameter: Tensor) -> Tensor:
    """Return the rows of a parameter that this rank holds; writing to them changes the parameter."""
    with torch.no_grad():
        return parameter.to_local() if isinstance(parameter, DTensor) else parameter.detach()


def held_rows(parameter: DTensor) -> tuple[int, int]:
    """Return the first row that this rank holds and the one behind the last."""
    start, count = 0, parameter.shape[0]
    for dimension, placement in enumerate(parameter.placements):
        if isinstance(placement, Shard):
            size = -(-count // parameter.device_mesh.size(dimension))
            before = min(size * parameter.device_mesh.get_local_rank(dimension), count)
            start, count = start + before, min(size, count - before)
    assert count == local(parameter).shape[0]
    return start, start + count


def _piece(names: frozenset[str], parameters: Mapping[str, Tensor]) -> Piece:
    parameter = parameters[min(names)]
    shape = tuple(parameter.shape)
    if not isinstance(parameter, DTensor):
        return Piece.whole(names, shape)
    start, stop = held_rows(parameter)
    width = math.prod(shape[1:])
    return Piece(names, shape, start * width, stop * width)

"""Which parts of a teacher FSDP2 puts together one at a time; the splitting itself needs two processes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from builders import tiny_model
from torch import nn
from torch.distributed.tensor import Replicate, Shard

from hf_distill.teachers import split_fsdp2
from hf_distill.teachers.split_fsdp2 import held_rows, local, mesh_of, units_of


def named_units(model: nn.Module) -> list[str]:
    names = {module: name for name, module in model.named_modules()}
    return [names[unit] for unit in units_of(model)]


@pytest.mark.parametrize(
    ("head", "overrides", "expected"),
    [
        ("classification", {}, ["bert.encoder.layer.1", "bert.encoder.layer.0", "bert.embeddings.word_embeddings"]),
        ("causal_lm", {}, ["transformer.h.1", "transformer.h.0"]),
        (
            "causal_lm",
            {"tie_word_embeddings": False},
            ["lm_head", "transformer.h.1", "transformer.h.0", "transformer.wte"],
        ),
        # Its weight has two names, and its bias another two.
        ("masked_lm", {}, ["bert.encoder.layer.1", "bert.encoder.layer.0"]),
    ],
    ids=["no head", "tied", "untied", "tied with its bias"],
)
def test_no_parameter_is_in_two_units(head, overrides, expected):
    model = tiny_model(head, **overrides)
    assert named_units(model) == expected
    inside = [parameter for unit in units_of(model) for parameter in unit.parameters()]
    outside = set(model.parameters()) - set(inside)
    assert len(set(inside)) == len(inside)
    assert not any(parameter in outside for parameter in inside)


def test_layers_that_share_a_parameter_are_no_units():
    model = tiny_model("classification")
    first, second = model.bert.encoder.layer
    second.output.dense.weight = first.output.dense.weight
    assert named_units(model) == ["bert.embeddings.word_embeddings"]


def test_every_layer_of_a_decoder_and_an_encoder_is_a_unit_of_its_own():
    assert [name for name in named_units(tiny_model("seq2seq_lm")) if "block" in name] == [
        f"{stack}.block.{number}" for stack in ("decoder", "encoder") for number in (1, 0)
    ]


class Mesh(SimpleNamespace):
    """As much of a mesh of ranks as `held_rows` asks for."""

    def size(self, dimension: int) -> int:
        return self.sizes[dimension]

    def get_local_rank(self, dimension: int) -> int:
        return self.ranks[dimension]


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("copies", [False, True])
def test_rows_are_held_by_exactly_one(monkeypatch, rows, ranks, copies):
    whole = torch.arange(rows)
    chunks = [*whole.chunk(ranks), *[whole[:0]] * ranks][:ranks]
    for rank, chunk in enumerate(chunks):
        placements = (Replicate(), Shard(0)) if copies else (Shard(0),)
        mesh = Mesh(sizes=(2, ranks) if copies else (ranks,), ranks=(1, rank) if copies else (rank,))
        monkeypatch.setattr(split_fsdp2, "local", lambda _, chunk=chunk: chunk)
        parameter = SimpleNamespace(shape=whole.shape, placements=placements, device_mesh=mesh)
        start, stop = held_rows(parameter)
        assert whole[start:stop].tolist() == chunk.tolist()


def test_a_whole_parameter_is_its_own_local_part():
    parameter = nn.Parameter(torch.zeros(3))
    local(parameter).fill_(2.0)
    assert parameter.tolist() == [2.0] * 3


def test_a_teacher_is_split_over_the_ranks_of_the_student():
    asked = []

    class Named:
        def __getitem__(self, names: tuple[str, ...]) -> str:
            asked.append(names)
            return "the student's"

    config = SimpleNamespace(fsdp_dim_names=["dp_replicate", "dp_shard_cp"])
    accelerator = SimpleNamespace(torch_device_mesh=Named(), parallelism_config=config)
    assert mesh_of(accelerator) == "the student's"
    assert asked == [("dp_replicate", "dp_shard_cp")]

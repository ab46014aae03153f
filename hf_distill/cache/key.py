"""The content address of an example: 128 bits of what the teacher's forward reads of it, computed on the device.

Shape legend: L = 2 lanes of 64 bits, C inputs, B examples, T positions, N positions or 64-bit words of an example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

KEY_BYTES = 16

POSITIONAL = ("attention_mask", "input_ids", "position_ids", "token_type_ids")
"""Inputs with one number a position (B, T): padding is left out of them. Everything else is read whole."""

_LANES = 2
# 0xBF58476D1CE4E5B9 and 0x94D049BB133111EB as signed numbers.
_ROUNDS = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))
_BLOCK = 2**15
"""Words that are mixed at once on a CPU: intermediate results then stay in its cache."""


def example_keys(inputs: Mapping[str, Any], counted: Tensor | None = None) -> Tensor:
    """Return the address of each example of a batch.

    Two examples have one address where the teacher's forward reads the same of them and the same positions count:
    attended tokens in their order, token types and position ids where they are given, images and vectors bit by bit.
    Padding does not matter, neither its side nor its width, nor which other examples are in the batch; positions are
    counted from the first one that is read. A model that numbers positions from the first column, padding included
    (BERT), does see a left-padded text elsewhere: data sets of such models are padded on the right, and this address
    takes both for one.

    Each pair (position, value) of each input goes through a mixer (SplitMix64's) whose constants differ between
    inputs and between the two lanes; the results are added up with wrap-around, so that a GPU's order of summation
    cannot matter, and mixed once more. A sum of 128 bits that behave as drawn at random: among n examples two
    different ones share an address with probability n²/2¹²⁹, 10⁻¹⁵ for n = 10¹². It protects against chance, not
    against somebody who builds a collision on purpose.

    Args:
        inputs: What the teacher's forward is given, labels left out; None values are not there.
        counted: Which positions count, as `Rows.mask`: (B, T), (B, T − 1) after the next-token shift, (B,) or None
            where there are no positions.

    Shapes: returns (B, 2) int64, the same on every device.

    Raises:
        ValueError: An input is no tensor or does not have one row an example.
    """
    tensors = _checked(inputs)
    positional = {name: tensor for name, tensor in tensors.items() if _is_positional(name, tensor)}
    whole = {name: tensor for name, tensor in tensors.items() if name not in positional}
    first = next(iter(tensors.values()))
    total_LB = torch.zeros(_LANES, first.shape[0], dtype=torch.int64, device=first.device)
    counted = None if counted is None or counted.dim() < 2 else counted
    if positional:
        total_LB += _of_positions(positional, counted)
    elif counted is not None:
        whole["counted positions"] = counted
    for name, tensor in whole.items():
        total_LB += _of_whole(name, tensor)
    names_LB = torch.tensor(_constants(",".join(tensors)), device=first.device)[:, 1:]
    return _mixed(total_LB + names_LB).T.contiguous()


def _checked(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    given = {name: inputs[name] for name in sorted(inputs) if inputs[name] is not None}
    strange = [name for name, value in given.items() if not isinstance(value, Tensor) or value.dim() == 0]
    if strange or not given:
        raise ValueError(
            f"the teacher reads {strange or 'nothing'} of the batch, where tensors with one row an example were "
            "expected; leave it out of the batch, or let the teacher run live"
        )
    sizes = {name: len(value) for name, value in given.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"the inputs of a batch have different numbers of examples: {sizes}; such batches have no addresses, let "
            "the teacher run live"
        )
    return given


def _is_positional(name: str, tensor: Tensor) -> bool:
    return name in POSITIONAL and tensor.dim() == 2


def _of_positions(tensors: Mapping[str, Tensor], counted: Tensor | None) -> Tensor:
    """Return the sum over positions that are read: attended, or counted although they are not. Shapes: (L, B)."""
    columns = {name: _integers(tensor) for name, tensor in tensors.items()}
    attended = columns.get("attention_mask")
    sample = next(iter(columns.values()))
    read_BT = torch.ones_like(sample, dtype=torch.bool) if attended is None else attended != 0
    if counted is not None:
        counted_BT = F.pad(counted.bool(), (0, sample.shape[1] - counted.shape[1]))
        read_BT = read_BT | counted_BT
        columns["counted positions"] = counted_BT.long()
    start_B = (read_BT.cumsum(1) == 0).sum(1)
    position_BT = torch.arange(sample.shape[1], device=sample.device) - start_B[:, None]
    elements_LCBT = _elements(list(columns), torch.stack(list(columns.values())), position_BT)
    return (elements_LCBT * read_BT).sum((1, 3))


def _of_whole(name: str, tensor: Tensor) -> Tensor:
    """Return the sum over all of an example's bits, 64 at a time. Shapes: (B, ...) -> (L, B)."""
    words_BN = _words(tensor)
    what = f"{name} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape[1:])}"
    order_N = torch.arange(words_BN.shape[1], device=tensor.device)
    rows = len(words_BN) if tensor.device.type != "cpu" else max(_BLOCK // max(words_BN.shape[1], 1), 1)
    return torch.cat([_elements([what], part[None], order_N).sum((1, 3)) for part in words_BN.split(rows)], dim=1)


def _elements(names: Sequence[str], values_CBN: Tensor, places: Tensor) -> Tensor:
    """Return a pseudo-random number for each value at its place, in each lane, for each of C inputs.

    Shapes: (C, B, N) values with (B, N) or (N,) places -> (L, C, B, N).
    """
    constants = [_constants("places"), *map(_constants, names)]
    table = torch.tensor(constants, device=values_CBN.device).permute(2, 1, 0)[..., None, None]
    factors_LC11, offsets_LC11 = table[0] | 1, table[1]
    places_L1BN = _mixed(places * factors_LC11[:, :1] + offsets_LC11[:, :1])
    return _mixed((values_CBN * factors_LC11[:, 1:]).add_(offsets_LC11[:, 1:]).add_(places_L1BN))


def _mixed(values: Tensor) -> Tensor:
    """Return SplitMix64's finaliser, computed in `values`: a bijection of 64 bits whose outputs look independent.

    int64 multiplication wraps as that of unsigned numbers does; the arithmetic shift needs its sign bits cut off.
    """
    for shift, factor in _ROUNDS:
        values ^= (values >> shift).bitwise_and_((1 << (64 - shift)) - 1)
        values *= factor
    values ^= (values >> 31).bitwise_and_((1 << 33) - 1)
    return values


def _constants(name: str) -> list[list[int]]:
    """Return a factor and an offset that belong to a name, for each lane. Shapes: (L, 2)."""
    digest = hashlib.sha256(name.encode()).digest()
    numbers = [int.from_bytes(digest[at : at + 8], "little", signed=True) for at in range(0, len(digest), 8)]
    return [numbers[2 * lane : 2 * lane + 2] for lane in range(_LANES)]


def _integers(tensor: Tensor) -> Tensor:
    """Return the numbers of a column as int64: integers as they are, floating-point numbers by their bits."""
    if not tensor.is_floating_point():
        return tensor.long()
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(kinds[tensor.element_size()]).long()


def _words(tensor: Tensor) -> Tensor:
    """Return the bits of each example as whole 64-bit words, filled up with zeros. Shapes: (B, ...) -> (B, N)."""
    octets = tensor.reshape(len(tensor), -1).contiguous().view(torch.uint8)
    missing = -octets.shape[1] % 8
    if missing:
        octets = F.pad(octets, (0, missing))
    # A slice may begin between two words.
    return (octets.clone() if octets.storage_offset() % 8 else octets.contiguous()).view(torch.int64)

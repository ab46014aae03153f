"""Numbers below a limit in as few bits as that limit needs, one after the other across byte borders.

Shape legend: R rows, K numbers of a row.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_BITS = 25
"""What is surely within the four bytes from the one in which a number begins."""


def bits_of(limit: int) -> int:
    """Return how many bits a number below `limit` takes: ⌈log2 limit⌉, and 1 where the only one is 0.

    Raises:
        ValueError: The limit is below 1, or takes more than 25 bits.
    """
    if not 1 <= limit <= 2**_MOST_BITS:
        raise ValueError(f"numbers below {limit} cannot be packed; expected a limit from 1 to 2^{_MOST_BITS}")
    return max((limit - 1).bit_length(), 1)


def packed_bytes(count: int, limit: int) -> int:
    """Return the bytes that a row of `count` numbers below `limit` takes."""
    return -(-count * bits_of(limit) // 8)


def pack(numbers_RK: Tensor, *, limit: int) -> Tensor:
    """Pack rows of numbers, lowest bits first; each row begins in a byte of its own.

    Shapes: (R, K) integers in [0, limit) -> (R, bytes) uint8, on the CPU.
    """
    bits = bits_of(limit)
    numbers = numbers_RK.cpu().numpy().astype(np.uint32)
    flags = (numbers[..., None] >> np.arange(bits, dtype=np.uint32)) & np.uint32(1)
    rows = flags.reshape(len(numbers), numbers.shape[1] * bits).astype(np.uint8)
    return torch.from_numpy(np.packbits(rows, axis=1, bitorder="little"))


def unpack(octets: Tensor, *, count: int, limit: int) -> Tensor:
    """Undo `pack`, on the device where the bytes are.

    Shapes: (R, bytes) uint8 -> (R, count) int64.

    Raises:
        ValueError: The rows have another length than `count` numbers take.
    """
    bits = bits_of(limit)
    if octets.shape[1] != packed_bytes(count, limit):
        raise ValueError(
            f"{count} numbers below {limit} take {packed_bytes(count, limit)} bytes a row, got {octets.shape[1]}"
        )
    starts_K = torch.arange(count, device=octets.device) * bits
    # A number of up to 25 bits begins anywhere in a byte, so it may reach into the third one behind it.
    padded = F.pad(octets, (0, 3))
    words_RK = torch.zeros(len(octets), count, dtype=torch.int64, device=octets.device)
    for place in range(4):
        words_RK |= padded[:, starts_K // 8 + place].long() << (8 * place)
    return (words_RK >> (starts_K % 8)) & ((1 << bits) - 1)

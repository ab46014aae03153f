from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from builders import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.cache.key import example_keys
from hf_distill.reading.signals import select_rows, with_position_ids

MASK64 = 2**64 - 1
IDS = [7, 9, 11, 30]
GOLDEN_TEXT = (-838680291319808974, -4925220543356624286)
GOLDEN_VECTOR = (2997420207115644705, -6986809670358317847)


def batch(*texts: list[int], width: int | None = None, left: bool = False, pad: int = 0) -> dict[str, torch.Tensor]:
    """Make a batch of token ids, padded to one width."""
    width = width or max(map(len, texts))
    ids, mask = [], []
    for text in texts:
        padding = [pad] * (width - len(text))
        ids.append(padding + text if left else text + padding)
        mask.append([0] * len(padding) + [1] * len(text) if left else [1] * len(text) + [0] * len(padding))
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def key_of(inputs: dict[str, Any], counted: torch.Tensor | None = None) -> tuple[int, ...]:
    (key,) = example_keys(inputs, counted).tolist()
    return tuple(key)


# ---- what does not matter ----


@settings(derandomize=True, deadline=None)
@given(
    text=st.lists(st.integers(0, 50_000), min_size=1, max_size=12),
    extra=st.integers(0, 5),
    pad=st.integers(0, 9),
    labelled=st.integers(0, 2**12 - 1),
)
def test_padding_side_width_and_token_do_not_matter(text, extra, pad, labelled):
    flags = [bool(labelled >> place & 1) for place in range(len(text))]
    width = len(text) + extra
    keys = set()
    for left in (False, True):
        padding = [False] * extra
        counted = torch.tensor([padding + flags if left else flags + padding])
        keys.add(key_of(batch(text, width=width, left=left, pad=pad), counted))
    assert keys == {key_of(batch(text), torch.tensor([flags]))}


@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
def test_how_batches_are_made_does_not_matter(head):
    data = examples(head, count=9)

    def keys(sizes: list[int]) -> list[list[int]]:
        found, start = [], 0
        for size in sizes:
            joined = {name: torch.stack([item[name] for item in data[start : start + size]]) for name in data[0]}
            rows = select_rows(head, joined)
            inputs = with_position_ids({name: joined[name] for name in joined if name != "labels"})
            found += example_keys(inputs, rows.mask).tolist()
            start += size
        return found

    assert keys([9]) == keys([1] * 9) == keys([4, 3, 2])
    assert len({tuple(key) for key in keys([9])}) == 9


def test_the_type_of_integers_does_not_matter():
    wide = batch(IDS)
    narrow = {"input_ids": wide["input_ids"].int(), "attention_mask": wide["attention_mask"].bool()}
    assert key_of(wide) == key_of(narrow)


def test_inputs_that_are_none_are_not_there():
    assert key_of({**batch(IDS), "token_type_ids": None}) == key_of(batch(IDS))


def test_a_slice_of_a_batch_keeps_its_addresses():
    images = {"pixel_values": torch.randn(5, 3, 3, 3)}
    assert example_keys({"pixel_values": images["pixel_values"][2:]}).equal(example_keys(images)[2:])
    columns = torch.randn(4, 6)
    assert example_keys({"inputs": columns[:, 1:]}).equal(example_keys({"inputs": columns[:, 1:].clone()}))


# ---- what matters ----


def test_everything_that_the_teacher_reads_matters():
    plain = batch(IDS, width=6)
    types = torch.tensor([[0, 0, 1, 1, 0, 0]])
    hole = {**plain, "attention_mask": torch.tensor([[1, 0, 1, 1, 0, 0]])}
    half = {**plain, "attention_mask": torch.tensor([[1, 2, 1, 1, 0, 0]])}
    counted = torch.tensor([[True, False, False, True, False, False]])
    cases = [
        (plain, None),
        (batch([9, 7, 11, 30], width=6), None),
        (batch(IDS[:3], width=6), None),
        (batch([*IDS, 0], width=6), None),
        ({"input_ids": torch.tensor([IDS])}, None),
        ({**plain, "token_type_ids": types}, None),
        ({**plain, "token_type_ids": types * 0}, None),
        ({**plain, "position_ids": torch.arange(6)[None]}, None),
        (hole, None),
        (half, None),
        (plain, counted),
        (plain, counted.roll(1, 1)),
        (plain, ~counted),
        ({"inputs": torch.tensor([[1.0, -1.0]])}, None),
        ({"inputs": torch.tensor([[-1.0, 1.0]])}, None),
        ({"inputs": torch.tensor([[1.0], [-1.0]]).T.double()}, None),
        ({"other": torch.tensor([[1.0, -1.0]])}, None),
        ({"pixel_values": torch.ones(1, 1, 2, 3)}, None),
        ({"pixel_values": torch.ones(1, 1, 3, 2)}, None),
        ({"pixel_values": torch.ones(1, 1, 3, 2).half()}, None),
        ({"pixel_values": torch.ones(1, 1, 3, 2) + 1e-7}, None),
    ]
    assert len({key_of(inputs, counted) for inputs, counted in cases}) == len(cases)


def test_padding_that_is_counted_is_read():
    """Its own token decides the row, although no other position attends to it."""
    counted = torch.tensor([[False, True, True]])
    first, second = (batch([5], width=3, pad=pad) for pad in (0, 1))
    assert key_of(first) == key_of(second)
    assert key_of(first, counted) != key_of(second, counted)


def test_next_token_rows_are_told_from_those_of_the_same_positions():
    shifted = torch.tensor([[True, False, True]])
    assert key_of(batch(IDS), shifted) == key_of(batch(IDS), torch.tensor([[True, False, True, False]]))
    assert key_of(batch(IDS), shifted) != key_of(batch(IDS), torch.tensor([[False, True, False, True]]))


def test_similar_examples_never_share_an_address_or_a_half_of_one():
    generator = torch.Generator().manual_seed(0)
    near = torch.arange(3)[None].repeat(40_000, 1)
    near[:, 0], near[:, 1] = torch.arange(40_000) // 200, torch.arange(40_000) % 200
    rolled = torch.randint(0, 2, (30_000, 24), generator=generator).unique(dim=0)
    signs = 1.0 - 2.0 * torch.randint(0, 2, (20_000, 50), generator=generator).unique(dim=0)
    keys = torch.cat([example_keys({"input_ids": near}), example_keys({"input_ids": rolled})])
    keys = torch.cat([keys, example_keys({"inputs": signs})])
    for half in (keys[:, 0], keys[:, 1]):
        assert len(half.unique()) == len(keys)


def test_every_bit_of_an_address_changes_with_one_bit_of_the_example():
    ids = torch.arange(64)[None].repeat(65, 1)
    ids[torch.arange(64), torch.arange(64)] ^= 1
    keys = example_keys({"input_ids": ids})
    changed = keys[:64] ^ keys[64]
    flips = [[int(word) >> bit & 1 for word in row for bit in range(64)] for row in changed.tolist()]
    share = torch.tensor(flips, dtype=torch.float64).mean(0)
    # 64 fair coins leave 0.15 to 0.85 with a probability below 1e-8.
    assert ((share > 0.15) & (share < 0.85)).all()


# ---- the same numbers wherever they are computed ----


def mixed(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK64
    return value ^ (value >> 31)


def constants(name: str) -> list[tuple[int, int]]:
    digest = hashlib.sha256(name.encode()).digest()
    numbers = [int.from_bytes(digest[at : at + 8], "little") for at in range(0, 32, 8)]
    return [(numbers[0], numbers[1]), (numbers[2], numbers[3])]


def by_hand(columns: dict[str, list[int]]) -> tuple[int, ...]:
    """The address of an unpadded text in plain Python integers."""
    lanes = []
    for lane in range(2):
        total = constants(",".join(sorted(columns)))[lane][1]
        factor, offset = constants("places")[lane]
        for name, values in columns.items():
            own_factor, own_offset = constants(name)[lane]
            for position, value in enumerate(values):
                place = mixed((position * (factor | 1) + offset) & MASK64)
                total += mixed((value * (own_factor | 1) + own_offset + place) & MASK64)
        found = mixed(total & MASK64)
        lanes.append(found - 2**64 if found >= 2**63 else found)
    return tuple(lanes)


def test_addresses_are_those_of_exact_integer_arithmetic():
    assert key_of(batch(IDS)) == by_hand({"attention_mask": [1] * 4, "input_ids": IDS})


def test_addresses_of_released_caches_do_not_change():
    """Another number here makes every cache that was ever written unreadable."""
    assert key_of(batch([1, 2, 3])) == GOLDEN_TEXT
    assert key_of({"inputs": torch.tensor([[1.0, -1.0, 0.5]])}) == GOLDEN_VECTOR


@pytest.mark.gpu
@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
def test_a_gpu_computes_the_same_addresses(head):
    data = examples(head, count=8)
    joined = {name: torch.stack([item[name] for item in data]) for name in data[0]}
    rows = select_rows(head, joined)
    inputs = {name: joined[name] for name in joined if name != "labels"} | {"pixel_values": torch.randn(8, 3, 8, 8)}
    there = {name: value.cuda() for name, value in inputs.items()}
    mask = None if rows.mask is None else rows.mask.cuda()
    assert example_keys(there, mask).cpu().equal(example_keys(inputs, rows.mask))


# ---- what has no address ----


@pytest.mark.parametrize("inputs", [{"input_ids": [[1, 2]]}, {}, {"length": torch.tensor(3)}])
def test_what_is_no_batch_of_tensors_is_refused(inputs):
    with pytest.raises(ValueError, match="tensors with one row an example"):
        example_keys(inputs)


def test_inputs_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="different numbers of examples"):
        example_keys({"input_ids": torch.zeros(2, 3).long(), "pixel_values": torch.zeros(3, 1)})

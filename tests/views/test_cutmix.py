"""CutMix puts one box of another image into each image."""

from __future__ import annotations

import torch
from view_cases import context_of, view_of

CONTEXT = context_of("classification")
SIZE = 12


def boxes(seed: int, alpha: float = 1.0) -> torch.Tensor:
    """Which image each pixel comes from, with image i filled with i. Shapes: (B, height, width)."""
    pixels = torch.arange(4.0)[:, None, None, None].expand(4, 2, SIZE, SIZE)
    torch.manual_seed(seed)
    mixed = view_of("cutmix", alpha=alpha).augment({"pixel_values": pixels}, CONTEXT)["pixel_values"]
    assert torch.equal(mixed[:, 0], mixed[:, 1]), "all channels come from one image"
    return mixed[:, 0]


def test_what_is_brought_in_is_a_box_of_one_other_image():
    shares = []
    for seed in range(60):
        source = boxes(seed)
        foreign = source != torch.arange(4.0)[:, None, None]
        assert all(torch.equal(foreign[0], other) for other in foreign), "one place for all images"
        rows, columns = foreign[0].any(1).nonzero().flatten(), foreign[0].any(0).nonzero().flatten()
        assert foreign[0].sum() == len(rows) * len(columns), "a rectangle"
        if not len(rows):
            continue
        assert torch.equal(rows, torch.arange(rows[0], rows[-1] + 1))
        assert torch.equal(columns, torch.arange(columns[0], columns[-1] + 1))
        partners = torch.stack([one[rows[0], columns[0]] for one in source])
        assert all(
            (one[inside] == partner).all() for one, inside, partner in zip(source, foreign, partners, strict=True)
        )
        assert sorted(partners.tolist()) == [0.0, 1.0, 2.0, 3.0]
        shares.append(foreign[0].double().mean().item())
    assert len(shares) > 50
    assert min(shares) < 0.1 and max(shares) > 0.5


def test_a_box_has_the_share_it_should():
    """With a large alpha λ is about 1/2: away from the border half of the image comes from another one."""
    areas = [(boxes(seed, alpha=1e6) != torch.arange(4.0)[:, None, None])[0].sum().item() for seed in range(60)]
    assert max(areas) == int(SIZE * 0.5**0.5) ** 2
    assert min(areas) < max(areas), "boxes at the border are cut off"

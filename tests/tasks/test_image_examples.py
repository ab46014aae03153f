from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.image_examples import (
    Colours,
    Framing,
    ImageExamples,
    choose_evenly,
    colours_of,
    hold_out,
    image_processor,
)
from hf_distill.tasks.image_sources import Images

PLAIN = Colours((0.0,), (1.0,))


def noise(count: int = 6, *, size: int = 8, channels: int = 1, seed: int = 0) -> Images:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(1, 256, (count, size, size, channels), dtype=np.uint8)
    return Images(pixels, np.arange(count, dtype=np.int64) % 3)


def shown(images: Images, rows: Any, **options: Any) -> torch.Tensor:
    stream = CounterStream("test", options.pop("seed", 0))
    return ImageExamples(images, colours=PLAIN, stream=stream, **options).batch(np.asarray(rows))["pixel_values"]


# ---- frames ----


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_kind_of_image_keeps_its_channels(mode: str, channels: int) -> None:
    pixels = Framing(channels=channels, size=5)(Image.new("RGB", (7, 6), (90, 90, 90)).convert(mode.split(";")[0]))
    assert (pixels.shape, pixels.dtype) == ((5, 5, channels), np.uint8)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (3, "L"), (3, "RGBA")])
@pytest.mark.parametrize("size", [4, 8, 21])
def test_the_students_image_processor_shows_it_the_same(channels: int, mode: str, size: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, (8, 8, len(mode)), dtype=np.uint8)
    image = Image.fromarray(array.squeeze())
    assert image.mode == mode
    colours = Colours((0.4,) * channels, (0.25,) * channels)
    framed = Framing(channels=channels, size=size)(image)
    ours = ImageExamples(Images(framed[None], np.zeros(1, dtype=np.int64)), colours=colours)[0]["pixel_values"]
    theirs = image_processor(size=size, colours=colours)(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_shades_of_grey_stay_grey() -> None:
    shades = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for channels in (1, 3):
        pixels = Framing(channels=channels, size=None)(shades)
        assert pixels.shape == (8, 8, channels)
        assert all((pixels[..., channel] == shades).all() for channel in range(channels))


# ---- colours ----


def test_mean_and_deviation_agree_with_numpy() -> None:
    images = noise(2100, size=3, channels=3)
    values = images.pixels_NHWC.reshape(-1, 3) / 255
    found = colours_of(images)
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, values.std(0), rtol=1e-9)


def test_a_channel_that_never_varies_is_not_divided_by_zero() -> None:
    images = Images(np.full((3, 2, 2, 1), 51, dtype=np.uint8), np.zeros(3, dtype=np.int64))
    colours = colours_of(images)
    assert colours == (pytest.approx((0.2,)), (1.0,))
    values = ImageExamples(images, colours=colours)[0]["pixel_values"]
    torch.testing.assert_close(values, torch.zeros(1, 2, 2), rtol=0, atol=1e-6)


# ---- shifts and mirrors ----


def test_an_example_depends_on_neither_its_batch_nor_its_order() -> None:
    images, options = noise(channels=3), {"crop_padding": 2, "flip": True, "copies": 10}
    whole = shown(images, range(60), **options)
    for rows in ([59, 3, 3, 17], [0]):
        assert torch.equal(shown(images, rows, **options), whole[rows])


def test_a_shift_is_a_shift_and_mixes_no_examples() -> None:
    """Each example is a window of its own image in a black frame, mirrored or not."""
    images, size, padding = noise(), 8, 2
    seen = set()
    for row, pixels in enumerate(
        (shown(images, range(600), crop_padding=2, flip=True, copies=100) * 255).round().int()
    ):
        framed = np.pad(images.pixels_NHWC[row % 6, ..., 0], padding)
        windows = {
            (top, left, mirrored): framed[top : top + size, left : left + size][:, :: -1 if mirrored else 1]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            for mirrored in (False, True)
        }
        (found,) = (place for place, window in windows.items() if np.array_equal(window, pixels[0].numpy()))
        seen.add(found)
    assert len(seen) == 50, "every shift, mirrored and not, comes up among 600"


def test_mirrors_are_half() -> None:
    images = noise(1)
    mirrored = shown(images, range(4000), flip=True, copies=4000)[:, 0].flip(-1) * 255
    share = (mirrored.round() == torch.from_numpy(images.pixels_NHWC[0, ..., 0])).flatten(1).all(1).double().mean()
    assert abs(share - 0.5) < 4.5 * 0.5 / 4000**0.5


def test_copies_and_seeds_show_others() -> None:
    images, options = noise(200), {"crop_padding": 3, "copies": 2}
    first, second = shown(images, range(400), **options).split(200)
    other_seed = shown(images, range(200), seed=1, **options)
    for again in (second, other_seed):
        same = (first == again).flatten(1).all(1).double().mean()
        assert same < 0.1, "of 49 shifts one is the same"


def test_held_out_images_are_not_moved() -> None:
    images = noise()
    plain = ImageExamples(images, colours=PLAIN)
    pixels = plain.batch(np.arange(6))["pixel_values"]
    torch.testing.assert_close(pixels[:, 0] * 255, torch.from_numpy(images.pixels_NHWC[..., 0]).float())
    assert len(plain) == 6
    assert pixels.is_contiguous() and pixels.dtype == torch.float32


# ---- which images ----


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=80),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 3),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_every_class_is_held_out_in_part(labels: list[int], share: float, seed: int) -> None:
    labels_N = np.array(labels)
    kept, held_out = hold_out(labels_N, share, seed=seed)
    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    for label in set(labels):
        size, taken = labels.count(label), int((labels_N[held_out] == label).sum())
        assert taken == (0 if size == 1 else min(max(round(share * size), 1), size - 1))


def test_what_is_held_out_follows_the_seed_and_not_the_order_of_the_data() -> None:
    labels = np.repeat(np.arange(4), 50)
    sets = [set(hold_out(labels, 0.2, seed=seed)[1].tolist()) for seed in (0, 0, 1)]
    assert sets[0] == sets[1] != sets[2]
    assert not sets[0] <= {row for row in range(200) if row % 50 < 12}


def test_a_part_of_the_images_leaves_no_class_out() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2] * 3)
    rows = choose_evenly(labels, 23, seed=0)
    assert np.array_equal(rows, np.sort(rows)) and len(set(rows.tolist())) == 23
    assert np.bincount(labels[rows]).tolist() == [10, 10, 3]
    assert len(choose_evenly(labels, 103, seed=0)) == 103
    assert not np.array_equal(rows, choose_evenly(labels, 23, seed=1))

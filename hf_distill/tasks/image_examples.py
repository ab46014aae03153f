"""Images as examples: framed, split, shifted, mirrored and normalised, each a function of its number.

Shape legend: B images of a batch, N images, H height, W width, C channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BaseImageProcessor, ViTImageProcessorPil

from hf_distill.tasks.batches import BatchDataset
from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.image_sources import Images

_SHADES = 256
_COUNTED_AT_ONCE = 1024


class Colours(NamedTuple):
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def image_processor(*, size: int, colours: Colours) -> BaseImageProcessor:
    """Return the processor that does to an image what the task does to it; a student is saved with it.

    It stretches images to a square and makes RGB of what has other channels; grey images it expects grey.
    """
    mean, std = list(colours.mean), list(colours.std)
    convert = True if len(mean) == 3 else None
    return ViTImageProcessorPil(
        size={"height": size, "width": size}, image_mean=mean, image_std=std, do_convert_rgb=convert
    )


class Framing:
    """Brings images to one number of channels and one size, as the student's image processor will.

    Args:
        channels: 1 (grey) or 3 (RGB).
        size: Pixels of each side; images are stretched to a square. None keeps the sizes they have.
    """

    def __init__(self, *, channels: int, size: int | None) -> None:
        self.channels, self.size = channels, size
        nothing = Colours((0.0,) * channels, (1.0,) * channels)
        self._processor = image_processor(size=size or 1, colours=nothing)

    def __call__(self, image: Any) -> NDArray[np.uint8]:
        """Return the pixels of an image of PIL, or of shades of grey (H, W).

        Shapes: -> (H, W, C).
        """
        pixels_HWC = self._coloured(image)
        if self.size is None or pixels_HWC.shape[:2] == (self.size, self.size):
            return pixels_HWC
        processor = self._processor
        resized_CHW = processor.resize(pixels_HWC.transpose(2, 0, 1), processor.size, processor.resample)
        return np.ascontiguousarray(resized_CHW.transpose(1, 2, 0))

    def _coloured(self, image: Any) -> NDArray[np.uint8]:
        if isinstance(image, np.ndarray):
            return np.repeat(image[..., None], self.channels, axis=-1)
        if self.channels == 1:
            return np.asarray(image.convert("L"))[..., None]
        return self._processor.process_image(image, do_convert_rgb=True).transpose(1, 2, 0)


def colours_of(images: Images) -> Colours:
    """Return mean and standard deviation of each channel; 1 for a channel that never varies."""
    pixels_NHWC = images.pixels_NHWC
    channels = pixels_NHWC.shape[-1]
    counts_CS = np.zeros((channels, _SHADES), dtype=np.int64)
    for start in range(0, len(pixels_NHWC), _COUNTED_AT_ONCE):
        part = pixels_NHWC[start : start + _COUNTED_AT_ONCE].reshape(-1, channels)
        counts_CS += np.stack([np.bincount(part[:, channel], minlength=_SHADES) for channel in range(channels)])
    shades_S = np.arange(_SHADES) / (_SHADES - 1)
    total = counts_CS.sum(1)
    mean_C = counts_CS @ shades_S / total
    std_C = np.sqrt((counts_CS * np.square(shades_S - mean_C[:, None])).sum(1) / total)
    varies_C = np.count_nonzero(counts_CS, axis=1) > 1
    return Colours(tuple(mean_C.tolist()), tuple(np.where(varies_C, std_C, 1.0).tolist()))


class ImageExamples(BatchDataset):
    """Images, shifted and mirrored in training; what example i shows depends on the stream and on i only.

    Args:
        images: N of them.
        colours: Subtracted and divided by.
        stream: Where shifts and mirrors come from; None shows the images as they are.
        crop_padding: Black pixels put around an image before one of its own size is cut out anywhere.
        flip: Mirror half of the images, left to right.
        copies: How many differently shown copies of each image the set holds: example i is image i mod N.
    """

    def __init__(
        self,
        images: Images,
        *,
        colours: Colours,
        stream: CounterStream | None = None,
        crop_padding: int = 0,
        flip: bool = False,
        copies: int = 1,
    ) -> None:
        self.images, self.stream = images, stream
        self.crop_padding, self.flip, self.copies = crop_padding, flip, copies
        self._mean_C11, self._std_C11 = (
            torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (colours.mean, colours.std)
        )

    def __len__(self) -> int:
        return len(self.images.labels_N) * self.copies

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Move, mirror and normalize the images. Shapes: (B, C, H, W), labels (B,)."""
        shown = self.images.take(rows % len(self.images.labels_N))
        pixels = torch.from_numpy(self._moved(shown.pixels_NHWC, rows)).permute(0, 3, 1, 2)
        values = (pixels.float().div(_SHADES - 1) - self._mean_C11) / self._std_C11
        return {"pixel_values": values.contiguous(), "labels": torch.from_numpy(shown.labels_N)}

    def _moved(self, pixels_BHWC: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        if self.stream is None or not (self.crop_padding or self.flip):
            return pixels_BHWC
        first_B = rows.astype(np.uint64) * np.uint64(3)
        down_B, right_B, mirror_B = (self.stream.uniform(first_B + np.uint64(number)) for number in range(3))
        padding, (_, height, width, _) = self.crop_padding, pixels_BHWC.shape
        top_B1, left_B1 = (
            np.floor(drawn * (2 * padding + 1)).astype(np.int64)[:, None] for drawn in (down_B, right_B)
        )
        column_BW = np.broadcast_to(np.arange(width), (len(rows), width))
        if self.flip:
            column_BW = np.where(mirror_B[:, None] < 0.5, column_BW, column_BW[:, ::-1])
        padded = np.pad(pixels_BHWC, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        y_BH1, x_B1W = (top_B1 + np.arange(height))[:, :, None], (left_B1 + column_BW)[:, None]
        return padded[np.arange(len(rows))[:, None, None], y_BH1, x_B1W]


def hold_out(labels_N: NDArray[np.int64], share: float, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which images are trained on and which are held out: the same share of each class, drawn with `seed`.

    At least one image of each class is trained on, and one is held out where there are two.

    Shapes: (N,) -> two sets of rows, ascending.
    """
    place_N = _place_in_class(labels_N, CounterStream("image_classification/held_out", seed))
    sizes_N = np.bincount(labels_N)[labels_N]
    held_out = place_N < np.clip(np.rint(share * sizes_N), 1, sizes_N - 1)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def choose_evenly(labels_N: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.int64]:
    """Return `count` images drawn with `seed`, as many of each class as there are, as far as that goes.

    Shapes: (N,) -> (count,), ascending.
    """
    stream = CounterStream("image_classification/chosen", seed)
    place_N = _place_in_class(labels_N, stream)
    keys_N = stream.uint64(np.arange(len(labels_N), dtype=np.uint64))
    return np.sort(np.lexsort((keys_N, place_N))[:count])


def _place_in_class(labels_N: NDArray[np.int64], stream: CounterStream) -> NDArray[np.int64]:
    """Return the place of each image in a random order of its class, counted from 0. Shapes: (N,) -> (N,)."""
    keys_N = stream.uint64(np.arange(len(labels_N), dtype=np.uint64))
    order_N = np.lexsort((keys_N, labels_N))
    first_C = np.searchsorted(labels_N[order_N], np.arange(labels_N.max(initial=-1) + 1))
    place_N = np.empty(len(labels_N), dtype=np.int64)
    place_N[order_N] = np.arange(len(labels_N)) - first_C[labels_N[order_N]]
    return place_N

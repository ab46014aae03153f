"""Where labelled images come from: scikit-learn's digits, local files, or a data set on the Hub.

Shape legend: N images, H height, W width, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hf_distill.strict_dataclass import from_mapping
from hf_distill.tasks.hub_data import HubData, check_column
from hf_distill.wording import did_you_mean, given

Frame = Callable[[Any], NDArray[np.uint8]]
"""Brings an image (of PIL, or an array (H, W)) to the task's channels and size. Shapes: -> (H, W, C)."""


class Images(NamedTuple):
    """Labelled images in memory.

    Shapes: `pixels_NHWC` (N, H, W, C), `labels_N` (N,).
    """

    pixels_NHWC: NDArray[np.uint8]
    labels_N: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Images:
        """Return some of the images, in this order."""
        return Images(self.pixels_NHWC[rows], self.labels_N[rows])


@dataclass(frozen=True, kw_only=True)
class ImageCollection:
    """Images as they were read.

    Attributes:
        train: Images to train on.
        validation: Held-out images, or None where the source has no split of its own.
        names: Of the classes, in the order of their numbers.
        source: The source in words, for reports and cards.
        datasets: Hub ids, with the commit read.
    """

    train: Images
    validation: Images | None = None
    names: list[str]
    source: str
    datasets: list[str] = field(default_factory=list)


class ImageSource(ABC):
    """Something that labelled images are read from."""

    @abstractmethod
    def read(self, frame: Frame) -> ImageCollection:
        """Return the images, each brought into its frame.

        Raises:
            ValueError: There is nothing to read, or it is not what it should be.
        """


@dataclass(frozen=True, kw_only=True)
class Digits(ImageSource):
    """scikit-learn's 1,797 handwritten digits of 8 × 8 pixels in 17 shades, a part of its own package.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, the test part.
    """

    def read(self, frame: Frame) -> ImageCollection:
        """Return the 1,797 digits of 8 × 8 shades that scikit-learn brings along."""
        # Slow to import, and no other data set needs it.
        from sklearn.datasets import load_digits

        shades_NHW, labels_N = load_digits(return_X_y=True)
        pixels = np.rint(shades_NHW.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        images = Images(_stack((frame(image) for image in pixels), "digits"), labels_N.astype(np.int64))
        return ImageCollection(train=images, names=[str(digit) for digit in range(10)], source="digits (scikit-learn)")


@dataclass(frozen=True, kw_only=True)
class TableOfImages(ImageSource):
    """Images and labels in two columns of a table that the library `datasets` reads."""

    split: str = field(default="train", metadata={"help": "split to train on, such as train or train[:10000]"})
    validation_split: str | None = field(default=None, metadata={"help": "split held out; else a share of `split` is"})
    image_column: str = field(default="image", metadata={"help": "column of the images"})
    label_column: str = field(default="label", metadata={"help": "column of the classes: numbers or names"})

    def collect(
        self, rows_of: Callable[[str], Any], frame: Frame, *, source: str, datasets: list[str]
    ) -> ImageCollection:
        """Read both splits.

        Args:
            rows_of: Gives a split's `datasets.Dataset`.
            frame: As for `read`.
            source: Of the record and of messages.
            datasets: Hub ids, with the commit read.

        Raises:
            ValueError: A column is missing, an image cannot be read, or a label is none of the classes.
        """
        splits = [self.split] if self.validation_split is None else [self.split, self.validation_split]
        tables = [self._checked(rows_of(split), source) for split in splits]
        names = class_names(tables[0].features[self.label_column], tables[0][self.label_column][:])
        sides = [
            Images(
                _stack(self._framed(table, frame, f"{source}, {split}"), f"{source}, {split}"),
                class_numbers(table[self.label_column][:], names, where=f"{source}, {split}"),
            )
            for table, split in zip(tables, splits, strict=True)
        ]
        held_out = sides[1] if len(sides) > 1 else None
        return ImageCollection(train=sides[0], validation=held_out, names=names, source=source, datasets=datasets)

    def _checked(self, rows: Any, source: str) -> Any:
        from datasets import Image

        check_column(rows, self.image_column, key="data.image_column", source=source)
        check_column(rows, self.label_column, key="data.label_column", source=source)
        if not isinstance(rows.features[self.image_column], Image):
            raise ValueError(
                f"data.image_column: {self.image_column!r} of {source!r} holds no images but "
                f"{rows.features[self.image_column]}; its columns: {', '.join(rows.column_names)}"
            )
        return rows

    def _framed(self, rows: Any, frame: Frame, where: str) -> Iterable[NDArray[np.uint8]]:
        from datasets import Image

        # Read one by one here, where a broken image can be named.
        encoded = rows.select_columns([self.image_column]).cast_column(self.image_column, Image(decode=False))
        for number, row in enumerate(encoded):
            try:
                yield frame(Image().decode_example(row[self.image_column]))
            except (OSError, SyntaxError, ValueError, TypeError) as error:
                file = (row[self.image_column] or {}).get("path")
                name = f" ({file})" if file else ""
                raise ValueError(f"data: image {number} of {where}{name} cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class LocalImages(TableOfImages):
    """Files of one's own: a folder with one folder of images for each class, or a table of images as .parquet."""

    path: str = field(metadata={"help": "a folder of folders of images (also below train/ and test/), or a .parquet"})

    def read(self, frame: Frame) -> ImageCollection:
        """Return the images of a folder, classes by sub-folder, or of a parquet file."""
        if not Path(self.path).expanduser().exists():
            raise ValueError(
                f"data.path: {self.path!r} does not exist; expected a folder with a folder of images for each class, "
                "or a .parquet file"
            )
        return self.collect(self._rows, frame, source=f"images of {self.path}", datasets=[])

    def _rows(self, split: str) -> Any:
        from datasets import load_dataset

        path = Path(self.path).expanduser()
        try:
            if path.is_dir():
                return load_dataset(str(path), split=split)
            return load_dataset("parquet", data_files=str(path), split=split)
        except (OSError, ValueError) as error:
            raise ValueError(f"data.path: cannot read the split {split!r} of {self.path!r}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class HubImages(TableOfImages):
    """A data set of the Hub, such as uoft-cs/cifar10, read by `datasets.load_dataset` at a commit."""

    hub: str = field(metadata={"help": "id of a data set on the Hub, or a folder that load_dataset reads"})
    name: str | None = field(default=None, metadata={"help": "its configuration"})
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit"})

    def read(self, frame: Frame) -> ImageCollection:
        """Return the images of a data set of the Hub at one commit."""
        instead = "train on `digits`, or on local files: {path: FOLDER}"
        data = HubData(self.hub, name=self.name, revision=self.revision, instead=instead)
        return self.collect(data.rows, frame, source=data.source, datasets=[data.source])


def image_source(spec: str | Mapping[str, Any]) -> ImageSource:
    """Return the source that a recipe's `data:` names.

    Args:
        spec: "digits", `{"path": ...}` (see `LocalImages`) or `{"hub": ...}` (see `HubImages`).

    Raises:
        ValueError: None of them, or an unknown key or wrong type.
    """
    if spec == "digits":
        return Digits()
    if isinstance(spec, Mapping) and "path" in spec:
        return from_mapping(LocalImages, spec, path="data")
    if isinstance(spec, Mapping) and "hub" in spec:
        return from_mapping(HubImages, spec, path="data")
    hint = did_you_mean(spec, ["digits"]) if isinstance(spec, str) else ""
    raise ValueError(f"data: expected `digits`, {{path: FOLDER}} or {{hub: ORG/NAME}}, got {given(spec)}.{hint}")


def class_names(feature: Any, labels: Sequence[Any]) -> list[str]:
    """Return the names of the classes: those that the table gives, the names in its rows, or the numbers.

    Args:
        feature: What `datasets` says of the column.
        labels: The column of the split to train on.
    """
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel):
        return list(feature.names)
    names = {label for label in labels if isinstance(label, str)}
    if names:
        return sorted(names)
    numbers = [label for label in labels if isinstance(label, int)]
    return [str(number) for number in range(max(numbers, default=-1) + 1)]


def class_numbers(labels: Sequence[Any], names: Sequence[str], *, where: str) -> NDArray[np.int64]:
    """Return the numbers of classes given by number or name. Shapes: -> (N,).

    Raises:
        ValueError: A label is missing (None, or -1 as in unlabelled test splits) or none of the classes.
    """
    numbers = {name: number for number, name in enumerate(names)}
    found = [numbers.get(label) if isinstance(label, str) else label for label in labels]
    for row, number in enumerate(found):
        if not isinstance(number, int) or not 0 <= number < len(names):
            raise ValueError(
                f"data.label_column: row {row} of {where} has the label {labels[row]!r}, which is none of the "
                f"{len(names)} classes ({', '.join(names[:5])}{', …' if len(names) > 5 else ''}). Choose a split with "
                "labels, or another column"
            )
    return np.array(found, dtype=np.int64)


def _stack(images: Iterable[NDArray[np.uint8]], where: str) -> NDArray[np.uint8]:
    stacked: list[NDArray[np.uint8]] = []
    for number, image in enumerate(images):
        if stacked and image.shape != stacked[0].shape:
            sizes = " and ".join(f"{width} × {height}" for height, width, _ in (stacked[0].shape, image.shape))
            raise ValueError(
                f"data: images 0 and {number} of {where} have {sizes} pixels; set task.image_size, to which all are "
                "resized"
            )
        stacked.append(image)
    return np.stack(stacked)

"""Image classification: scikit-learn's digits offline, CIFAR and its like from the Hub, or images of one's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from transformers import (
    AutoModelForImageClassification,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
)

from hf_distill.metrics.numbers import accuracy
from hf_distill.reading.signals import Head
from hf_distill.tasks.base import TASKS, Task, TaskData
from hf_distill.tasks.batches import BatchCollator
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
from hf_distill.tasks.image_sources import ImageCollection, Images, image_source
from hf_distill.tasks.model_building import AutoClass

TOP = 5
"""Beside the accuracy: how often the right class is among so many, where there are more classes than that."""
FEWEST_PATCHES = 8
LARGEST_PATCH = 16


class PreparedImages(NamedTuple):
    """What the task makes of its data, whatever the training seed."""

    collection: ImageCollection
    train: Images
    validation: Images
    colours: Colours


@TASKS.register("image_classification")
@dataclass(kw_only=True)
class ImageClassification(Task):
    """Tell what an image shows: one of several classes.

    Images are held in memory as bytes, stretched to `image_size`, and normalised. Shifts and mirrors are a function of
    the training seed and the example's number, and the teacher sees the same image as the student. A saved student
    brings its image processor, so that `pipeline("image-classification")` works.

    Models: any of `AutoModelForImageClassification`. A `resnet` built from a config is a ResNet-18 unless told
    otherwise; transformers' ResNet makes images four times smaller before its first stage, so give small images an
    `image_size` of 32 or more. Batch norm, in training, mixes the examples of a micro-batch: with it the update
    depends on how a batch is split over accumulation and processes, which no denominator can mend. Where that
    matters use a model without (convnext, vit). Its statistics need two values a channel: choose a batch size that
    leaves no single image over at the end of an epoch (`dataloader_drop_last` would leave out held-out images too).

    In objectives on layers an image counts once, whatever its number of positions: its value is their mean.
    """

    head: ClassVar[Head] = "classification"
    metric: ClassVar[str] = "accuracy"
    greater_is_better: ClassVar[bool] = True

    data: str | dict[str, Any] = field(
        default="digits",
        metadata={
            "help": "`digits`; {path: FOLDER-OF-FOLDERS or .parquet, validation_split}; or {hub: ORG/NAME, name, "
            "split, validation_split, image_column, label_column, revision}"
        },
    )
    image_size: int | None = field(
        default=None, metadata={"help": "pixels of each side, to which images are stretched; default as they are"}
    )
    channels: int = field(
        default=3,
        metadata={"help": "3 (RGB, which transformers' pipelines show a model) or 1 (grey)"},
    )
    mean: list[float] | None = field(
        default=None, metadata={"help": "of each channel in [0, 1]; default that of the training images"}
    )
    std: list[float] | None = field(
        default=None, metadata={"help": "of each channel; default that of the training images"}
    )
    crop_padding: int = field(
        default=0, metadata={"help": "shift training images by up to so many pixels, black coming in (CIFAR: 4 of 32)"}
    )
    flip: bool = field(default=False, metadata={"help": "mirror half of the training images, left to right"})
    copies: int = field(
        default=1, metadata={"help": "differently shifted and mirrored copies of each image in one epoch"}
    )
    train_examples: int | None = field(
        default=None, metadata={"help": "train on so many images only, evenly over the classes; default on all"}
    )
    validation_fraction: float = field(
        default=0.2, metadata={"help": "share of each class held out, where the data has no split of its own"}
    )
    data_seed: int = field(default=0, metadata={"help": "decides what is held out and what `train_examples` leaves"})

    def __post_init__(self) -> None:
        for name, least in (("image_size", 1), ("crop_padding", 0), ("copies", 1), ("train_examples", 1)):
            number = vars(self)[name]
            if number is not None and number < least:
                raise ValueError(f"{name}: expected at least {least}, got {number}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels: expected 1 (grey) or 3 (RGB), got {self.channels}")
        if not 0.0 < self.validation_fraction < 1.0:
            raise ValueError(f"validation_fraction: expected a share between 0 and 1, got {self.validation_fraction}")
        if self.copies > 1 and not (self.crop_padding or self.flip):
            raise ValueError(f"copies: {self.copies} equal copies of each image; set crop_padding or flip too")
        image_source(self.data)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and (len(values) != self.channels or (name == "std" and min(values) <= 0)):
                raise ValueError(f"{name}: expected {self.channels} numbers (std above 0), got {values}")

    def prepare(self, *, seed: int, cache_dir: Path) -> TaskData:
        """Read the images once for all seeds and curricula; the seed moves training images, never held-out ones."""
        collection, train, validation, colours = self._prepared
        size = train.pixels_NHWC.shape[1]
        return TaskData(
            train=ImageExamples(
                train,
                colours=colours,
                stream=CounterStream("image_classification/train", seed),
                crop_padding=self.crop_padding,
                flip=self.flip,
                copies=self.copies,
            ),
            validation=ImageExamples(validation, colours=colours),
            collator=BatchCollator(label_dimensions=0),
            processing_class=image_processor(size=size, colours=colours),
            compute_metrics=compute_metrics,
            fingerprint=self._fingerprint(),
            description={
                "datasets": collection.datasets,
                "source": collection.source,
                "preprocessing": self._preprocessing(size),
                "train_rows": len(train.labels_N),
                "validation_rows": len(validation.labels_N),
                "inputs": "pixel_values",
                "image_processor": "ViTImageProcessor",
                "labels": collection.names,
                "image_size": size,
                "channels": self.channels,
            },
        )

    def auto_class(self) -> AutoClass:
        """Return the class with a head for one class an image."""
        return AutoModelForImageClassification

    def config_defaults(
        self, config_class: type[PreTrainedConfig], given: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """Size inputs by the images and answers by their classes; a ResNet gets small, basic stages."""
        names, size = data.description["labels"], data.description["image_size"]
        defaults: dict[str, Any] = {"num_channels": self.channels, "image_size": size, "patch_size": patch_size(size)}
        if "num_labels" not in given:
            defaults["id2label"] = dict(enumerate(names))
            defaults["label2id"] = {name: number for number, name in enumerate(names)}
        if issubclass(config_class, ResNetConfig):
            widths = list(given.get("hidden_sizes", (64, 128, 256, 512)))
            defaults |= {"layer_type": "basic", "embedding_size": widths[0], "hidden_sizes": widths}
            defaults["depths"] = [2] * len(widths)
        return defaults

    def check_model(self, model: PreTrainedModel, data: TaskData) -> None:
        """Refuse a model for other channels, other sizes or other classes."""
        config, names, size = model.config, data.description["labels"], data.description["image_size"]
        settings = config.to_dict()
        if settings.get("num_channels", self.channels) != self.channels:
            raise ValueError(
                f"model: reads {settings['num_channels']} channels, but the images have {self.channels}. Set "
                f"task.channels: {settings['num_channels']}, or leave num_channels out of the config."
            )
        sides = settings.get("image_size")
        if sides is not None and set(np.ravel(sides).tolist()) != {size}:
            raise ValueError(
                f"model: reads images of {sides} pixels, but the data has {size}. Set task.image_size: {sides}, or "
                "leave image_size out of the config."
            )
        widths, depths = settings.get("hidden_sizes"), settings.get("depths")
        if widths and depths and len(widths) != len(depths):
            raise ValueError(f"model: hidden_sizes {widths} and depths {depths} must name as many stages")
        self._check_labels(config, names)

    def _check_labels(self, config: PreTrainedConfig, names: list[str]) -> None:
        ours = dict(enumerate(names))
        generic = all(str(name).startswith("LABEL_") for name in config.id2label.values())
        if config.num_labels != len(names) or not (generic or dict(config.id2label) == ours):
            raise ValueError(
                f"model: has {config.num_labels} classes ({_some(config.id2label.values())}), the data "
                f"{len(names)} ({_some(names)}), or another order of them. Leave labels out of the config, or choose "
                "weights that were trained for these classes."
            )

    @cached_property
    def _prepared(self) -> PreparedImages:
        """Read once: a comparison prepares its task for every seed and every curriculum."""
        collection = image_source(self.data).read(Framing(channels=self.channels, size=self.image_size))
        train, validation = self._split(collection)
        height, width = train.pixels_NHWC.shape[1:3]
        if height != width or validation.pixels_NHWC.shape[1:3] != (height, width):
            raise ValueError(
                f"data: images of {collection.source} have {width} × {height} pixels"
                f"{'' if height != width else ' and held-out ones others'}; set task.image_size, to which all are "
                "stretched"
            )
        found = colours_of(train)
        given = Colours(tuple(self.mean or found.mean), tuple(self.std or found.std))
        return PreparedImages(collection, train, validation, given)

    def _split(self, collection: ImageCollection) -> tuple[Images, Images]:
        train, validation = collection.train, collection.validation
        if validation is None:
            kept, held_out = hold_out(train.labels_N, self.validation_fraction, seed=self.data_seed)
            train, validation = train.take(kept), train.take(held_out)
        if not len(train.labels_N) or not len(validation.labels_N):
            raise ValueError(
                f"data: {len(collection.train.labels_N)} images of {collection.source} leave {len(train.labels_N)} to "
                f"train on and {len(validation.labels_N)} held out; both need one. Give more images, or held-out ones "
                "by validation_split."
            )
        if self.train_examples is None:
            return train, validation
        if self.train_examples > len(train.labels_N):
            raise ValueError(
                f"train_examples: {self.train_examples} asked for, but {collection.source} has {len(train.labels_N)} "
                "to train on"
            )
        return train.take(choose_evenly(train.labels_N, self.train_examples, seed=self.data_seed)), validation

    def _preprocessing(self, size: int) -> str:
        moves = [f"shifted by up to {self.crop_padding} pixels"] if self.crop_padding else []
        moves += ["mirrored at random"] if self.flip else []
        copies = f", {self.copies} such copies an epoch" if self.copies > 1 else ""
        colours = "grey" if self.channels == 1 else "RGB"
        training = f"; in training {' and '.join(moves)}{copies}" if moves else ""
        return f"{size} × {size} pixels, {colours}, normalised{training}"

    def _fingerprint(self) -> str:
        # What the examples are, not where they came from: a moved folder is the same data.
        settings = {key: value for key, value in asdict(self).items() if key != "data"}
        prepared = self._prepared
        digest = hashlib.sha256(
            json.dumps(["image_classification", settings, prepared.collection.names], sort_keys=True).encode()
        )
        for images in (prepared.train, prepared.validation):
            digest.update(np.ascontiguousarray(images.pixels_NHWC).tobytes())
            digest.update(images.labels_N.astype("<i8").tobytes())
        return digest.hexdigest()


def patch_size(image_size: int) -> int:
    """Return the side of a patch for models that cut images into patches.

    The largest up to 16 pixels that divides the image and leaves 8 patches a side, where it has as many pixels.
    """
    largest = max(min(LARGEST_PATCH, image_size // FEWEST_PATCHES), 1)
    return max(side for side in range(1, largest + 1) if image_size % side == 0)


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return the share of right classes, and of images whose class is among the best 5 of more than 5.

    Of equal logits the lower class counts as the better one. Comparable between models on the same images.

    Shapes: predictions (N, classes), labels (N,).
    """
    logits = prediction.predictions
    logits = logits[0] if isinstance(logits, tuple) else logits
    metrics = {"accuracy": accuracy(logits.argmax(-1), prediction.label_ids)}
    if logits.shape[-1] > TOP:
        best = np.argsort(-logits, axis=-1, kind="stable")[:, :TOP]
        metrics[f"top_{TOP}_accuracy"] = float((best == np.asarray(prediction.label_ids)[:, None]).any(-1).mean())
    return metrics


def _some(names: Any) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")

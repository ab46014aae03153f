"""Sparse parity: the sign of a product of k out of d random signs (Panigrahi et al. 2024, arXiv 2410.05464)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForSequenceClassification, EvalPrediction, PreTrainedConfig, PreTrainedModel

from hf_distill.metrics.numbers import accuracy
from hf_distill.reading.signals import Head
from hf_distill.tasks.base import TASKS, Task, TaskData
from hf_distill.tasks.batches import BatchCollator, BatchDataset
from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.model_building import AutoClass, config_value
from hf_distill.tasks.parity_model import ParityMlpConfig

Inputs = Literal["vector", "tokens"]
PAD_TOKEN_ID = 2
HEAD_DIMENSION = 8


class ParityExamples(BatchDataset):
    """`count` examples that are computed when asked for: example i depends on the stream and on i only.

    Bit 1 stands for the coordinate -1, so the product over the support is +1 (class 0) where the bits' sum is even.

    Args:
        stream: Where the bits come from.
        dimension: Coordinates of an example.
        support: Indices of the coordinates that are multiplied.
        count: Examples; they cost no memory.
        inputs: "vector": `inputs`, float signs; "tokens": `input_ids`, the bits.
    """

    def __init__(
        self, stream: CounterStream, *, dimension: int, support: NDArray[np.int64], count: int, inputs: Inputs
    ) -> None:
        self.stream, self.dimension, self.support, self.count, self.inputs = stream, dimension, support, count, inputs
        self._words = np.arange(-(-dimension // 64), dtype=np.uint64)

    def __len__(self) -> int:
        return self.count

    def bits(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the bits of the examples.

        Shapes: (B,) -> (B, d).
        """
        counters = rows.astype(np.uint64)[:, None] * np.uint64(len(self._words)) + self._words
        octets = self.stream.uint64(counters).astype("<u8", copy=False).view(np.uint8)
        return np.unpackbits(octets, axis=1, count=self.dimension, bitorder="little")

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return signs or bits, and as labels the parity of the support. Shapes: (B, d), (B,)."""
        bits = self.bits(rows)
        labels = torch.from_numpy(bits[:, self.support].sum(axis=1) % 2).long()
        values = torch.from_numpy(bits)
        if self.inputs == "tokens":
            return {"input_ids": values.long(), "labels": labels}
        return {"inputs": 1.0 - 2.0 * values.float(), "labels": labels}


@TASKS.register("parity")
@dataclass(kw_only=True)
class Parity(Task):
    """x uniform in {-1, +1}^d, y = product of k coordinates; class 0 where the product is +1.

    Training examples are fresh: with `train_examples` ≥ steps × batch size nothing is seen twice, and the stream is a
    function of the training seed and the example's number, so a resumed run continues with the same examples.
    """

    head: ClassVar[Head] = "classification"
    metric: ClassVar[str] = "accuracy"
    greater_is_better: ClassVar[bool] = True

    d: int = field(default=50, metadata={"help": "coordinates of an example"})
    k: int = field(default=4, metadata={"help": "coordinates that are multiplied"})
    support: Literal["first", "random"] = field(
        default="first", metadata={"help": "which coordinates: the first k, or k drawn with `data_seed`"}
    )
    inputs: Inputs = field(
        default="vector",
        metadata={
            "help": "`vector`: signs for parity_mlp; `tokens`: bits as input_ids for gpt2 and other text models"
        },
    )
    train_examples: int = field(
        default=2**20,
        metadata={
            "help": "length of the training set, which costs no memory (but a random sampler's order does, 40 bytes "
            "an example: beyond some millions set `training.train_sampling_strategy: sequential`)"
        },
    )
    validation_examples: int = field(default=4000, metadata={"help": "held-out examples"})
    data_seed: int = field(default=0, metadata={"help": "decides the held-out examples and a random support"})
    dropout: float = field(default=0.0, metadata={"help": "every dropout rate of models built from a config"})

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.d:
            raise ValueError(f"k: expected 1 to d = {self.d} coordinates in the support, got {self.k}")
        if self.inputs not in ("vector", "tokens"):
            raise ValueError(f"inputs: expected 'vector' or 'tokens', got {self.inputs!r}")
        if min(self.train_examples, self.validation_examples) < 1:
            raise ValueError(
                f"train_examples and validation_examples: expected at least 1 each, got {self.train_examples} and "
                f"{self.validation_examples}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout: expected a rate in [0, 1), got {self.dropout}")

    def prepare(self, *, seed: int, cache_dir: Path) -> TaskData:
        """Draw training examples by the seed and held-out ones by `data_seed`; nothing is kept on disk."""
        return TaskData(
            train=self._examples(CounterStream("parity/train", seed), self.train_examples),
            validation=self._examples(CounterStream("parity/validation", self.data_seed), self.validation_examples),
            collator=BatchCollator(label_dimensions=0),
            compute_metrics=compute_metrics,
            fingerprint=hashlib.sha256(json.dumps(["parity", asdict(self)], sort_keys=True).encode()).hexdigest(),
            description=self._description(),
        )

    def support_indices(self) -> NDArray[np.int64]:
        """Return the k coordinates whose product is the label, in ascending order."""
        if self.support == "first":
            return np.arange(self.k)
        keys = CounterStream("parity/support", self.data_seed).uint64(np.arange(self.d, dtype=np.uint64))
        return np.sort(np.argsort(keys)[: self.k])

    def auto_class(self) -> AutoClass:
        """Return the class that answers with one of two classes."""
        return AutoModelForSequenceClassification

    def config_defaults(
        self, config_class: type[PreTrainedConfig], given: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """Size the MLP's input, or give a text model the papers' shape: 2 layers, heads of 8 dimensions."""
        if issubclass(config_class, ParityMlpConfig):
            return {"input_size": self.d, "num_labels": 2}
        defaults: dict[str, Any] = {"num_labels": 2, "vocab_size": PAD_TOKEN_ID + 1, "pad_token_id": PAD_TOKEN_ID}
        defaults |= {"bos_token_id": None, "eos_token_id": None}
        # The papers' transformers: 2 layers, heads of 8 dimensions, as many heads as the recipe says.
        heads = given.get("num_attention_heads", given.get("n_head", 4))
        defaults |= {"num_hidden_layers": 2, "num_attention_heads": heads, "hidden_size": HEAD_DIMENSION * heads}
        defaults |= {"max_position_embeddings": self.d}
        return defaults | self._dropout_rates(config_class)

    def check_model(self, model: PreTrainedModel, data: TaskData) -> None:
        """Refuse a model that reads the other form of `inputs`, cannot read d coordinates or has not 2 classes."""
        is_mlp = isinstance(model.config, ParityMlpConfig)
        if is_mlp != (self.inputs == "vector"):
            raise ValueError(
                f"model: {type(model).__name__} does not read `inputs: {self.inputs}` of the parity task. Set "
                f"task.inputs: {'vector' if is_mlp else 'tokens'}, or choose another architecture."
            )
        read = model.config.input_size if is_mlp else config_value(model.config, "max_position_embeddings")
        if read is not None and (read != self.d if is_mlp else read < self.d):
            raise ValueError(f"model: reads {read} coordinates, but task.d is {self.d}")
        if model.config.num_labels != 2:
            raise ValueError(f"model: parity has 2 classes, the model has {model.config.num_labels}")

    def _dropout_rates(self, config_class: type[PreTrainedConfig]) -> dict[str, Any]:
        defaults = config_class().to_dict()
        return {key: self.dropout for key, value in defaults.items() if "drop" in key and isinstance(value, float)}

    def _examples(self, stream: CounterStream, count: int) -> ParityExamples:
        return ParityExamples(
            stream, dimension=self.d, support=self.support_indices(), count=count, inputs=self.inputs
        )

    def _description(self) -> dict[str, Any]:
        return {
            "datasets": [],
            "source": f"sparse parity, d = {self.d}, k = {self.k}, generated",
            "preprocessing": f"{self.support} {self.k} coordinates as support; fresh examples in every training step",
            "train_rows": self.train_examples,
            "validation_rows": self.validation_examples,
        }


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return the share of right classes.

    Shapes: predictions (N, 2), labels (N,).
    """
    logits = prediction.predictions
    logits = logits[0] if isinstance(logits, tuple) else logits
    return {"accuracy": accuracy(logits.argmax(-1), prediction.label_ids)}

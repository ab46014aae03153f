"""What masked and causal language modelling share: the text, the tokenizer, the blocks and the models' vocabulary."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.metrics.language_modeling import TokenHead, TokenMetrics, shrink_logits
from hf_distill.tasks.base import Task, TaskData
from hf_distill.tasks.batches import BatchCollator, BatchDataset
from hf_distill.tasks.text_blocks import Blocks, end_of_document_id, split_by_hash, token_stream
from hf_distill.tasks.text_models import check_reads_text, text_defaults
from hf_distill.tasks.text_sources import Corpus, text_source
from hf_distill.tasks.tokenizer_training import tokenizer_source


class Side(NamedTuple):
    """One side of the split: its documents and their tokens."""

    documents: Sequence[str]
    blocks: Blocks

    @property
    def bytes(self) -> int:
        """Length of the documents in UTF-8."""
        return sum(len(text.encode()) for text in self.documents)

    @property
    def tokens(self) -> int:
        """Positions that are text."""
        return int(self.blocks.lengths.sum())


class PreparedText(NamedTuple):
    """What a text task makes of its data, whatever the training seed."""

    corpus: Corpus
    tokenizer: PreTrainedTokenizerBase
    train: Side
    validation: Side


@dataclass(kw_only=True)
class TextTask(Task):
    """A language-modelling task on blocks of `max_length` tokens."""

    data: str | dict[str, Any] | list[Any] = field(
        default="python-docs",
        metadata={
            "help": "`python-docs`; {path: FILE-OR-FOLDER, column, validation_path}; or "
            "{hub: ORG/NAME, name, split, validation_split, column, revision}; or a list of them"
        },
    )
    tokenizer: dict[str, Any] = field(
        default_factory=lambda: {"train": {"kind": "wordpiece", "vocab_size": 4096}},
        metadata={"help": "{train: {kind: wordpiece or bpe, vocab_size}} or {pretrained: ORG/NAME, revision}"},
    )
    max_length: int = field(default=128, metadata={"help": "tokens of a block"})
    validation_fraction: float = field(
        default=0.05, metadata={"help": "share of documents held out, where the data has no split of its own"}
    )

    def __post_init__(self) -> None:
        if self.max_length < 8:
            raise ValueError(f"max_length: expected at least 8 tokens, got {self.max_length}")
        if not 0.0 < self.validation_fraction < 1.0:
            raise ValueError(f"validation_fraction: expected a share between 0 and 1, got {self.validation_fraction}")
        text_source(self.data)
        tokenizer_source(self.tokenizer)
        # Read and encoded once: a comparison prepares its task for every seed and every curriculum.
        self._prepared: dict[Path, PreparedText] = {}

    @property
    def token_head(self) -> TokenHead:
        """The head, as token metrics know it."""
        return "causal_lm" if self.head == "causal_lm" else "masked_lm"

    def prepare(self, *, seed: int, cache_dir: Path) -> TaskData:
        """Read and encode the text once for all seeds and curricula; only training examples depend on the seed."""
        corpus, tokenizer, train, validation = self._prepare_text(Path(cache_dir))
        return TaskData(
            train=self.train_set(train.blocks, tokenizer, seed=seed),
            validation=self.validation_set(validation.blocks, tokenizer),
            collator=BatchCollator(label_dimensions=1),
            processing_class=tokenizer,
            compute_metrics=TokenMetrics(head=self.token_head, bytes_per_token=self.bytes_per_token(validation)),
            preprocess_logits_for_metrics=shrink_logits(self.token_head),
            fingerprint=self._fingerprint(tokenizer, train.blocks, validation.blocks),
            description=self._description(corpus, tokenizer, train, validation),
        )

    @abstractmethod
    def cut(self, stream: NDArray[np.int32], tokenizer: PreTrainedTokenizerBase, *, keep_tail: bool) -> Blocks:
        """Cut a stream of tokens into blocks of `max_length`."""

    @abstractmethod
    def train_set(self, blocks: Blocks, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> BatchDataset:
        """Return the training examples."""

    @abstractmethod
    def validation_set(self, blocks: Blocks, tokenizer: PreTrainedTokenizerBase) -> BatchDataset:
        """Return the held-out examples, the same in every evaluation of every run."""

    @abstractmethod
    def preprocessing(self) -> str:
        """Return in words what happens to a block."""

    def bytes_per_token(self, validation: Side) -> float | None:
        """Return the bytes of text a scored token stands for, or None where bits per byte mean nothing."""
        return None

    def config_defaults(
        self, config_class: type[PreTrainedConfig], given: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """Take the size of the vocabulary and the special ids from the tokenizer."""
        assert data.tokenizer is not None
        return text_defaults(data.tokenizer)

    def check_model(self, model: PreTrainedModel, data: TaskData) -> None:
        """Refuse a model with fewer embeddings than tokens, or fewer positions than `max_length`."""
        assert data.tokenizer is not None
        check_reads_text(model, data.tokenizer, max_length=self.max_length)

    def _prepare_text(self, cache_dir: Path) -> PreparedText:
        if cache_dir not in self._prepared:
            corpus = text_source(self.data).read()
            documents = self._split(corpus)
            tokenizer = tokenizer_source(self.tokenizer).load(documents[0], cache_dir=cache_dir)
            self._prepared[cache_dir] = PreparedText(corpus, tokenizer, *self._sides(documents, tokenizer))
        return self._prepared[cache_dir]

    def _split(self, corpus: Corpus) -> tuple[Sequence[str], Sequence[str]]:
        if corpus.validation is not None:
            train, validation = corpus.train, corpus.validation
        else:
            train, validation = split_by_hash(corpus.train, self.validation_fraction)
        if not train or not validation:
            raise ValueError(
                f"data: {len(corpus.train)} documents of {corpus.source} leave {len(train)} to train on and "
                f"{len(validation)} held out; both need one. Give more documents, another validation_fraction "
                f"(now {self.validation_fraction}), or held-out text by validation_path or validation_split."
            )
        return train, validation

    def _sides(
        self, documents: tuple[Sequence[str], Sequence[str]], tokenizer: PreTrainedTokenizerBase
    ) -> tuple[Side, Side]:
        streams = [token_stream(tokenizer, texts) for texts in documents]
        train = Side(documents[0], self.cut(streams[0], tokenizer, keep_tail=False))
        validation = Side(documents[1], self.cut(streams[1], tokenizer, keep_tail=True))
        if not len(train.blocks.ids):
            raise ValueError(
                f"data: the training text has {len(streams[0])} tokens, less than one block of max_length = "
                f"{self.max_length}. Give more text or lower task.max_length."
            )
        return train, validation

    def _fingerprint(self, tokenizer: PreTrainedTokenizerBase, train: Blocks, validation: Blocks) -> str:
        # What the examples are, not where they came from: a moved folder is the same data.
        settings = {key: value for key, value in asdict(self).items() if key not in ("data", "tokenizer")}
        digest = hashlib.sha256(json.dumps([self.head, settings], sort_keys=True).encode())
        digest.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
        for blocks in (train, validation):
            digest.update(np.ascontiguousarray(blocks.ids, dtype="<i4").tobytes())
            digest.update(np.ascontiguousarray(blocks.lengths, dtype="<i4").tobytes())
        return digest.hexdigest()

    def _description(
        self, corpus: Corpus, tokenizer: PreTrainedTokenizerBase, train: Side, validation: Side
    ) -> dict[str, Any]:
        sides = {"train": train, "validation": validation}
        counts = {f"{name}_rows": len(side.blocks.ids) for name, side in sides.items()}
        counts |= {f"{name}_documents": len(side.documents) for name, side in sides.items()}
        counts |= {f"{name}_bytes": side.bytes for name, side in sides.items()}
        counts |= {f"{name}_tokens": side.tokens for name, side in sides.items()}
        end = tokenizer.convert_ids_to_tokens(end_of_document_id(tokenizer))
        return {
            "datasets": corpus.datasets,
            "source": corpus.source,
            "preprocessing": f"documents end with {end} and are packed into {self.preprocessing()}",
            "tokenizer": self.tokenizer,
            "vocabulary": len(tokenizer),
            **counts,
        }

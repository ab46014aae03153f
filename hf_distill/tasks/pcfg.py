"""Sentences of a context-free grammar (Panigrahi et al. 2024, arXiv 2410.05464; Allen-Zhu and Li 2023, 2305.13673)."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from hf_distill.metrics.language_modeling import TokenHead, TokenMetrics, shrink_logits
from hf_distill.reading.signals import Head
from hf_distill.tasks.base import TASKS, Task, TaskData
from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.model_building import AutoClass, config_value
from hf_distill.tasks.pcfg_grammar import Grammar, TreeSampler
from hf_distill.tasks.pcfg_sentences import (
    BOS,
    EOS,
    PAD,
    VOCABULARY,
    CausalSentences,
    MaskedSentences,
    SentenceCollator,
    SentenceDataset,
    sentence_tokenizer,
)


@dataclass(kw_only=True)
class PcfgTask(Task):
    """What masked and causal language modelling of a grammar share.

    Training sentences are fresh: with `train_examples` ≥ steps × batch size no example is seen twice, and the stream
    is a function of the training seed and the example's number, so a resumed run continues with the same ones.

    A root below 22 leaves the sentences of one part of the grammar, short enough for a CPU: our instantiation.
    """

    head: ClassVar[Head]
    greater_is_better: ClassVar[bool] = True

    grammar: Literal["cfg3b", "cfg3f", "cfg3g", "cfg3h", "cfg3i"] = field(
        default="cfg3b", metadata={"help": "cfg3b (the papers' main one), cfg3f, cfg3g, cfg3h or cfg3i"}
    )
    root: int = field(
        default=22,
        metadata={
            "help": "non-terminal a sentence stems from: 22 as in the papers (cfg3b: 294 terminals on average), or a "
            "lower one for short sentences: 19 to 21 (about 150), 16 to 18 (55), 13 to 15 (20)"
        },
    )
    train_examples: int = field(
        default=2**20,
        metadata={
            "help": "length of the training set, which costs no memory (but a random sampler's order does, 40 bytes "
            "an example: beyond some millions set `training.train_sampling_strategy: sequential`)"
        },
    )
    validation_examples: int = field(default=4096, metadata={"help": "held-out sentences"})
    data_seed: int = field(default=0, metadata={"help": "decides the held-out sentences"})

    def __post_init__(self) -> None:
        self._grammar = Grammar.named(self.grammar, root=self.root)
        if min(self.train_examples, self.validation_examples) < 1:
            raise ValueError(
                f"train_examples and validation_examples: expected at least 1 each, got {self.train_examples} and "
                f"{self.validation_examples}"
            )

    @abstractmethod
    def examples(self, side: Literal["train", "validation", "probe"], *, seed: int, count: int) -> SentenceDataset:
        """Return `count` examples; different sides are unrelated even with the same seed."""

    @abstractmethod
    def preprocessing(self) -> str:
        """Return in words what is to be predicted."""

    @property
    def rules(self) -> Grammar:
        """The grammar below `root`."""
        return self._grammar

    @property
    def positions(self) -> int:
        """Positions of the longest sentence: its terminals and BOS."""
        return self._grammar.longest + 1

    def prepare(self, *, seed: int, cache_dir: Path) -> TaskData:
        """Draw training sentences by the seed and held-out ones by `data_seed`; nothing is kept on disk."""
        head: TokenHead = "causal_lm" if self.head == "causal_lm" else "masked_lm"
        return TaskData(
            train=self.examples("train", seed=seed, count=self.train_examples),
            validation=self.examples("validation", seed=self.data_seed, count=self.validation_examples),
            collator=SentenceCollator(),
            processing_class=sentence_tokenizer(),
            compute_metrics=TokenMetrics(head=head),
            preprocess_logits_for_metrics=shrink_logits(head),
            fingerprint=self._fingerprint(),
            description={
                "datasets": [],
                "source": f"context-free grammar {self.grammar} from non-terminal {self.root}, generated",
                "preprocessing": f"BOS and {self._grammar.shortest} to {self._grammar.longest} terminals; "
                f"{self.preprocessing()}",
                "vocabulary": len(VOCABULARY),
                "train_rows": self.train_examples,
                "validation_rows": self.validation_examples,
            },
        )

    def config_defaults(
        self, config_class: type[PreTrainedConfig], given: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """Size vocabulary and positions by the grammar."""
        special = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
        return {"vocab_size": len(VOCABULARY), "max_position_embeddings": self.positions, **special}

    def check_model(self, model: PreTrainedModel, data: TaskData) -> None:
        """Refuse a model with too few embeddings for the terminals, or positions for the longest sentence."""
        rows = len(next(model.get_input_embeddings().parameters()))
        if rows < len(VOCABULARY):
            raise ValueError(
                f"model: its vocabulary has {rows} entries, the grammar's {len(VOCABULARY)}; leave `vocab_size` out"
            )
        read = config_value(model.config, "max_position_embeddings")
        if read is not None and read < self.positions:
            raise ValueError(
                f"model: reads {read} positions, but sentences from root {self.root} have up to {self.positions}; "
                "leave `max_position_embeddings` out or choose a lower task.root"
            )

    def _sampler(self, side: str, seed: int) -> TreeSampler:
        return TreeSampler(self._grammar, CounterStream(f"pcfg/{side}/trees", seed))

    def _fingerprint(self) -> str:
        rules = sorted(self._grammar.rules.items())
        return hashlib.sha256(json.dumps([self.head, asdict(self), rules], sort_keys=True).encode()).hexdigest()


@TASKS.register("pcfg")
@dataclass(kw_only=True)
class Pcfg(PcfgTask):
    """Predict 30 % of a sentence's terminals, hidden, from the others.

    Of the positions to predict 80 % show the mask token, 10 % a random terminal and 10 % their own; masks are drawn
    once for each sentence. What is likely there follows from the non-terminals above, which no model is shown: at
    first models answer from the nearest terminals, then in a sharp drop of the loss from the tree.
    """

    head: ClassVar[Head] = "masked_lm"
    metric: ClassVar[str] = "masked_accuracy"

    mask_rate: float = field(default=0.3, metadata={"help": "share of the terminals that are predicted"})
    attend_masked: bool = field(
        default=False,
        metadata={
            "help": "whether positions to predict can be attended to; off reproduces the paper's code, whose "
            "attention mask is 0 at every one of them; set it for usual masked language modelling"
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.mask_rate < 1.0:
            raise ValueError(f"mask_rate: expected a share between 0 and 1, got {self.mask_rate}")

    def examples(self, side: Literal["train", "validation", "probe"], *, seed: int, count: int) -> MaskedSentences:
        """Hide terminals; trees and masks have streams of their own."""
        return MaskedSentences(
            self._sampler(side, seed),
            CounterStream(f"pcfg/{side}/masks", seed),
            count=count,
            mask_rate=self.mask_rate,
            attend_masked=self.attend_masked,
        )

    def auto_class(self) -> AutoClass:
        """Return the class with a head for hidden terminals."""
        return AutoModelForMaskedLM

    def preprocessing(self) -> str:
        """Name the share that is predicted, and whether it can be attended to."""
        seen = "attended to" if self.attend_masked else "hidden from attention"
        return f"{self.mask_rate:.0%} of the terminals predicted (80/10/10) and {seen}, one masking a sentence"


@TASKS.register("pcfg_causal")
@dataclass(kw_only=True)
class PcfgCausal(PcfgTask):
    """Predict terminals from those before them: all, or those that end a span of a non-terminal.

    The paper's levels are read as heights in the tree, so that level 0, every terminal, is usual language modelling.
    The last terminal of a span mostly follows from the grammar, while others are often a free choice.
    """

    head: ClassVar[Head] = "causal_lm"
    metric: ClassVar[str] = "next_token_accuracy"

    level: int = field(
        default=0,
        metadata={
            "help": "predict the terminals that end a non-terminal of this height: 1 for the lowest (7 to 9), 2 for "
            "10 to 12, and so on; 0 for every terminal"
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.level <= self._grammar.height:
            raise ValueError(
                f"level: expected 0 (every terminal) to {self._grammar.height} (the end of a sentence from root "
                f"{self.root}), got {self.level}"
            )

    def examples(self, side: Literal["train", "validation", "probe"], *, seed: int, count: int) -> CausalSentences:
        """Label the ends of the level's spans."""
        return CausalSentences(self._sampler(side, seed), count=count, level=self.level)

    def auto_class(self) -> AutoClass:
        """Return the class with a head for the next terminal."""
        return AutoModelForCausalLM

    def preprocessing(self) -> str:
        """Name the level."""
        if self.level == 0:
            return "every terminal predicted"
        return f"predicted: the terminals that end a non-terminal of height {self.level}"

"""Tiny random models, data sets and trainers that tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from seq2seq_models import tiny_seq2seq
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from hf_distill import ProgressiveDistillConfig, ProgressiveDistillTrainer
from hf_distill.curricula import PlanContext
from hf_distill.models.outputs import logits_of
from hf_distill.reading.signals import TARGET_KEYS, Head

VOCABULARY = 40
HEADS = get_args(Head)
TAGS = 5


def bert_config(**overrides: Any) -> BertConfig:
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.3,
    }
    return BertConfig(**{**values, **overrides})


def tiny_model(head: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """Build a tiny model with the given head and fresh weights."""
    torch.manual_seed(seed)
    if head == "classification":
        return BertForSequenceClassification(bert_config(num_labels=3, **overrides))
    if head == "regression":
        return BertForSequenceClassification(bert_config(num_labels=1, problem_type="regression", **overrides))
    if head == "token_classification":
        return BertForTokenClassification(bert_config(num_labels=TAGS, **overrides))
    if head == "question_answering":
        return BertForQuestionAnswering(bert_config(**overrides))
    if head == "masked_lm":
        return BertForMaskedLM(bert_config(**overrides))
    if head == "seq2seq_lm":
        renamed = {"num_hidden_layers": "layers", "hidden_size": "width"}
        return tiny_seq2seq("t5", seed=seed, **{renamed.get(key, key): value for key, value in overrides.items()})
    values = {
        "vocab_size": VOCABULARY,
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 32,
        "initializer_range": 0.3,
    }
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(**{**values, **dropout, **overrides}))


def examples(head: str, *, count: int = 8, seed: int = 0, length: int = 12) -> list[dict[str, torch.Tensor]]:
    """Make examples of unequal lengths, right-padded to `length`, as a collator-free data set."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(count):
        used = 4 + (index * 3) % (length - 3)
        ids = torch.randint(5, VOCABULARY, (length,), generator=generator)
        mask = (torch.arange(length) < used).long()
        item = {"input_ids": ids * mask, "attention_mask": mask}
        if head == "classification":
            item["labels"] = torch.tensor(index % 3)
        elif head == "regression":
            item["labels"] = torch.rand((), generator=generator)
        elif head == "token_classification":
            tagged = mask.bool() & (torch.arange(length) % 4 != index % 4)
            item["labels"] = torch.where(tagged, ids % TAGS, torch.tensor(-100))
        elif head == "question_answering":
            # The third answer was cut off: its end lies behind the text.
            item["start_positions"] = torch.tensor(index % (used - 1))
            item["end_positions"] = torch.tensor(used - 1 if index % 4 != 2 else used)
        elif head == "seq2seq_lm":
            answer = torch.randint(5, VOCABULARY, (length - 2,), generator=generator)
            answer[used // 2] = 1
            item["labels"] = torch.where(torch.arange(length - 2) <= used // 2, answer, torch.tensor(-100))
        else:
            chosen = mask.bool() if head == "causal_lm" else mask.bool() & (torch.arange(length) % 3 == index % 3)
            item["labels"] = torch.where(chosen, ids, torch.tensor(-100))
        made.append(item)
    return made


def as_read(head: str, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a batch with what the decoder of `tiny_model` reads, where there is one."""
    if head != "seq2seq_lm":
        return batch
    labels = batch["labels"]
    return {**batch, "decoder_input_ids": torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1].clamp(min=0)], 1)}


def answer_of(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what a model says of a batch as it is read."""
    with torch.no_grad():
        output = model(**{key: value for key, value in batch.items() if key not in TARGET_KEYS})
    return logits_of(output, batch["attention_mask"])


def distill_config(
    folder: Path, *, config_class: type[ProgressiveDistillConfig] = ProgressiveDistillConfig, **overrides: Any
) -> ProgressiveDistillConfig:
    values: dict[str, Any] = {
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
    }
    return config_class(output_dir=str(folder), **{**values, **overrides})


def distill_trainer(folder: Path, head: str = "classification", **overrides: Any) -> ProgressiveDistillTrainer:
    """Build a trainer of a tiny student on tiny data; keyword arguments override trainer arguments or the config."""
    trainer_keys = (
        "model",
        "teacher",
        "train_dataset",
        "eval_dataset",
        "compute_metrics",
        "callbacks",
        "data_collator",
        "processing_class",
    )
    given = {key: overrides.pop(key) for key in list(overrides) if key in trainer_keys}
    overrides.setdefault("curriculum", "one_shot" if given.get("teacher") is not None else "labels")
    given.setdefault("model", tiny_model(head, seed=1))
    given.setdefault("train_dataset", examples(head))
    return ProgressiveDistillTrainer(args=distill_config(folder, **overrides), **given)


class NamedRevision(NamedTuple):
    """What a curriculum needs to know of a teacher revision."""

    name: str
    step: int | None


def revisions_at(*steps: int | None) -> list[NamedRevision]:
    """Make revisions called `step<n>`; None stands for a final model without a step in its name."""
    return [NamedRevision("final" if step is None else f"step{step}", step) for step in steps]


def plan_context(*steps: int | None, max_steps: int = 100, head: str = "classification") -> PlanContext:
    """Make what a curriculum is planned for, with a teacher whose revisions are at `steps`."""
    return PlanContext(head=head, max_steps=max_steps, revisions=revisions_at(*steps))


def word_tokenizer(*words: str) -> PreTrainedTokenizerFast:
    """Make a tokenizer that splits at white space; ids follow the order of the words, the first is for all others."""
    vocabulary = {word: index for index, word in enumerate(("[UNK]", *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def flat_weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().double() for parameter in model.parameters()])


def save_teacher_run(folder: Path, head: str = "classification", *, steps: tuple[int, ...] = (10, 20, 30)) -> Path:
    """Write a teacher's output folder with one checkpoint a step, each with other weights."""
    for step in steps:
        tiny_model(head, seed=step).save_pretrained(folder / f"checkpoint-{step}")
    return folder


def scale_passes(model: torch.nn.Module, *, passes: int, mode: str = "loop") -> None:
    """Scale what the head reads in pass k by 1 + k/4: passes that differ alike in every split, as dropout's do not."""
    count = [0]

    def scale(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if mode == "repeat":
            chunks = inputs[0].chunk(passes)
            return (torch.cat([chunk * (1.0 + 0.25 * index) for index, chunk in enumerate(chunks)]),)
        count[0] += 1
        return (inputs[0] * (1.0 + 0.25 * ((count[0] - 1) % passes)),)

    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    (model.get_output_embeddings() or linears[-1]).register_forward_pre_hook(scale)

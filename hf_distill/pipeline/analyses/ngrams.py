"""`hf-distill analyze ngrams`: do a language model's answers come from the nearest tokens or from the whole text?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_distill.analysis.ngram_reliance import (
    POSITIONS,
    NgramReliance,
    Texts,
    causal_reliance_info,
    masked_reliance_info,
    plot_ngram_reliance,
)
from hf_distill.pipeline.analyses.answers import (
    Answer,
    ask_each,
    folder_of_answers,
    identity,
    places_to_ask,
    plain,
    plot_steps,
    save_answer,
)
from hf_distill.pipeline.finished_run import FinishedRun, RunModel, Which
from hf_distill.reading.signals import IGNORE_INDEX
from hf_distill.tasks.pcfg import Pcfg


def analyze_ngrams(
    run: FinishedRun,
    *,
    which: Which = "all",
    revisions: Sequence[str] = (),
    examples: int = 128,
    positions: Sequence[int] = POSITIONS,
    attend_masked: bool | None = None,
) -> Answer:
    """Measure M_robust(n) and M_close(n) of a run's language models on held-out texts.

    Args:
        run: The run.
        which: The teacher's revisions, the students, or both.
        revisions: Names or patterns of revisions; all by default.
        examples: Held-out texts (the paper: 1024).
        positions: Where to ask.
        attend_masked: False hides masked positions from attention, for masked models trained so; by default as the
            task says.

    Raises:
        ValueError: The task is no language modelling, there are no models, or no position fits.
    """
    head, tokenizer = run.task.head, run.data.processing_class
    if head not in ("masked_lm", "causal_lm") or tokenizer is None:
        raise ValueError(f"n-gram reliance is a question for language models; this run's head is {head!r}")
    if attend_masked is None:
        attend_masked = run.task.attend_masked if isinstance(run.task, Pcfg) else True
    texts = [_texts(batch, tokenizer) for batch in run.batches("validation", examples=examples)]

    def measure(model: RunModel) -> tuple[NgramReliance, ...]:
        def predict(ids: Tensor, attention: Tensor) -> Tensor:
            return run.logits(model.model, {"input_ids": ids, "attention_mask": attention})

        if head == "causal_lm":
            return causal_reliance_info(predict, texts, positions=positions)
        mask_id = tokenizer.mask_token_id
        return masked_reliance_info(predict, texts, mask_id=mask_id, positions=positions, attend_masked=attend_masked)

    asked = ask_each(run, which, places_to_ask(run, which, revisions), measure)
    numbers = [{**identity(model), "ngrams": [_numbers(info) for info in infos]} for model, infos in asked]
    settings = {"examples": examples, "positions": list(positions), "attend_masked": attend_masked}
    files = [save_answer(run, "ngrams", numbers, **settings)]
    teacher = [(model, infos) for model, infos in asked if model.curriculum is None]
    if teacher:
        models, infos = zip(*teacher, strict=True)
        files.append(plot_ngram_reliance(infos, plot_steps(models), folder_of_answers(run) / "ngrams.png"))
    measured = asked[0].info
    return Answer(
        columns=("model", *(f"{kind} {info.n}" for info in measured for kind in ("robust", "close"))),
        rows=[(model.name, *_medians(infos)) for model, infos in asked],
        note=f"median L1 distances over {measured[0].pairs} pairs of text and position; means and L1/2 in the JSON",
        files=files,
    )


def _texts(batch: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> Texts:
    """The texts of a batch as they were before anything was masked: labels hold what a mask hides."""
    labels, shown = batch["labels"], batch["input_ids"]
    predicted = labels != IGNORE_INDEX
    ids = torch.where(predicted, labels, shown)
    attention = batch["attention_mask"] if "attention_mask" in batch else torch.ones_like(ids)
    # What is to be predicted is text, also where the task hides it from attention.
    attention = attention | predicted
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=ids.device))
    return Texts(ids, attention, attention.bool() & ~special)


def _medians(infos: Sequence[NgramReliance]) -> list[float]:
    return [distance.median for info in infos for distance in (info.robust, info.close)]


def _numbers(info: NgramReliance) -> dict[str, Any]:
    halves = {"robust": plain(info.robust.total_variation), "close": plain(info.close.total_variation)}
    return {**plain(info), "total_variation": halves}

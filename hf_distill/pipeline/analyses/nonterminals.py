"""`hf-distill analyze nonterminals`: can a grammar's non-terminals be read off the models' hidden states?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_distill.analysis.nonterminal_probe import (
    NonterminalProbeInfo,
    ProbeSettings,
    TreeBatch,
    nonterminal_probe_info,
    plot_nonterminal_probe,
)
from hf_distill.pipeline.analyses.answers import (
    Answer,
    ask_each,
    folder_of_answers,
    identity,
    places_to_ask,
    plain,
    save_answer,
)
from hf_distill.pipeline.finished_run import FinishedRun, RunModel, Which
from hf_distill.reading.signals import IGNORE_INDEX
from hf_distill.strict_dataclass import to_mapping
from hf_distill.tasks.pcfg import PcfgTask
from hf_distill.tasks.pcfg_sentences import SentenceDataset

TRAIN_SENTENCES = 10_240
HELD_OUT_SENTENCES = 4096
BATCH_SIZE = 64


def analyze_nonterminals(
    run: FinishedRun,
    *,
    which: Which = "all",
    revisions: Sequence[str] = (),
    train_sentences: int = TRAIN_SENTENCES,
    examples: int = HELD_OUT_SENTENCES,
    batch_size: int = BATCH_SIZE,
    settings: ProbeSettings | None = None,
) -> Answer:
    """Train a linear probe on the last hidden layer of each model, all on the same sentences, nothing hidden.

    The sentences are drawn with the task's `data_seed`, apart from those for training and evaluation.

    Args:
        run: The run.
        which: The teacher, the students, or both.
        revisions: Names or patterns of the teacher's revisions; the final one by default.
        train_sentences: For the probe; the default is the paper's, as are those that follow.
        examples: Sentences the probe is asked about.
        batch_size: Of the probe's training.
        settings: Size and training of the probe.

    Raises:
        ValueError: Another task than pcfg or pcfg_causal, a root whose sentences have one non-terminal of each
            height, no models, or impossible settings.
    """
    task, settings = run.task, settings or ProbeSettings()
    if not isinstance(task, PcfgTask):
        raise ValueError(f"non-terminals are a question for the tasks pcfg and pcfg_causal; this run's is {task.head}")
    if min(train_sentences, examples, batch_size) < 1:
        raise ValueError(f"expected at least 1 sentence each, got {train_sentences}, {examples} and {batch_size}")
    # Where a height has one non-terminal only (the root), there is nothing to ask.
    symbols = {height: task.rules.symbols_at(height) for height in range(1, task.rules.height + 1)}
    symbols = {height: found for height, found in symbols.items() if len(found) > 1}
    if not symbols:
        raise ValueError(f"sentences from root {task.root} have one non-terminal of each height; choose a higher root")
    data = task.examples("probe", seed=task.data_seed, count=train_sentences + examples)
    train = _batches(data, range(train_sentences), batch_size, symbols, run.device)
    held_out = _batches(data, range(train_sentences, train_sentences + examples), batch_size, symbols, run.device)

    def measure(model: RunModel) -> NonterminalProbeInfo:
        def hidden(ids: Tensor, attention: Tensor) -> Tensor:
            return model.model.base_model(input_ids=ids, attention_mask=attention).last_hidden_state

        classes = {height: len(found) for height, found in symbols.items()}
        return nonterminal_probe_info(hidden, train, held_out, classes=classes, settings=settings)

    asked = ask_each(run, which, places_to_ask(run, which, revisions, final_only=True), measure)
    numbers = [{**identity(model), **plain(info)} for model, info in asked]
    # Every seed would be a line of its own: the picture shows the first one, the JSON has them all.
    drawn = {model.name: info for model, info in asked if model.seed in (None, run.recipe.seeds[0])}
    used = {"train_sentences": train_sentences, "examples": examples, "batch_size": batch_size}
    return Answer(
        columns=("model", *(f"{min(found)}–{max(found)}" for found in symbols.values())),
        rows=[(model.name, *info.accuracy) for model, info in asked],
        note=(
            f"accuracy of the probe for the non-terminals above a terminal, over {asked[0].info.terminals} terminals; "
            f"the most frequent one: {', '.join(f'{rate:.3f}' for rate in asked[0].info.base_rate)}"
        ),
        files=[
            save_answer(run, "nonterminals", numbers, **used, **to_mapping(settings)),
            plot_nonterminal_probe(drawn, folder_of_answers(run) / "nonterminals.png"),
        ],
    )


def _batches(
    data: SentenceDataset, rows: range, size: int, symbols: dict[int, tuple[int, ...]], device: torch.device
) -> list[TreeBatch]:
    return [_batch(data, rows[first : first + size], symbols, device) for first in range(0, len(rows), size)]


def _batch(data: SentenceDataset, rows: range, symbols: dict[int, tuple[int, ...]], device: torch.device) -> TreeBatch:
    ids, attended, trees = data.sentences(np.asarray(rows))
    ancestors = np.full((len(symbols), *ids.shape), IGNORE_INDEX)
    for place, (height, found) in enumerate(symbols.items()):
        above = trees.ancestors(height)
        # The first position is BOS, which has no ancestors.
        ancestors[place, :, 1:] = np.where(above < 0, IGNORE_INDEX, np.searchsorted(found, above))
    columns: tuple[Any, ...] = (ids, attended.astype(np.int64), ancestors)
    return TreeBatch(*(torch.from_numpy(column).to(device) for column in columns))

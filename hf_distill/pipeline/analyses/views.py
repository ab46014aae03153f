"""`hf-distill analyze views`: which augmentation leaves the final teacher's mean answers the steadiest (T. stddev)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_distill.analysis.view_spread import BLOCK, mean_probabilities, plot_view_spread, view_spread_info
from hf_distill.curricula import CURRICULA
from hf_distill.curricula.views import build_views
from hf_distill.loss.loss_log import LossLog
from hf_distill.pipeline.analyses.answers import Answer, folder_of_answers, plain, save_answer
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.reading.model_reading import Wanted
from hf_distill.reading.signal_reader import SignalReader
from hf_distill.reading.signals import select_rows
from hf_distill.strict_dataclass import to_mapping
from hf_distill.views import VIEWS, View, ViewContext, token_ids

NO_VIEW = "none"

Batch = dict[str, Any]


def analyze_views(
    run: FinishedRun, *, names: Sequence[str] = (), steps: int = 200, block: int = BLOCK, seed: int = 0
) -> Answer:
    """Measure T. stddev of the final teacher without a view, with each of the recipe's and with others.

    The same training batches for all, in an order drawn from `seed`; the answers to a batch and to its view are
    pooled, as the two are in the loss. Examples are not picked: a pick depends on the student.

    Args:
        run: The run.
        names: Other views, with their defaults; by default all that fit the head and the data.
        steps: Batches of the recipe's size.
        block: Steps averaged to one value.
        seed: Of the order of the examples and of the views.

    Raises:
        ValueError: No teacher, a head without probabilities, an unknown view, or one that does not fit.
    """
    if run.task.head in ("regression", "question_answering"):
        raise ValueError(f"T. stddev is about probabilities of given classes; this run's head is {run.task.head}")
    used, asked = _views_of_recipe(run), _Asked(run, list(_batches(run, steps, seed)))
    views = [*used, *_other_views(run, names, used, asked)]
    infos = {NO_VIEW: view_spread_info(asked.means(None, seed), block=block)}
    for view in tqdm(views, desc="Asking", unit="view"):
        infos[view_text(view)] = view_spread_info(asked.means(view, seed), block=block)
    where = {view_text(view): ", ".join(labels) for view, labels in used.items()}
    numbers = [{"view": name, "curricula": where.get(name, ""), **plain(info)} for name, info in infos.items()]
    ranked = sorted(infos.items(), key=lambda item: item[1].spread)
    folder = folder_of_answers(run)
    return Answer(
        columns=("view", "T. stddev", "± error", "curricula"),
        rows=[(name, info.spread, info.error, where.get(name, "")) for name, info in ranked],
        note=(
            f"standard deviation of the final teacher's mean probabilities over {infos[NO_VIEW].blocks} blocks of "
            f"{block} steps, batch and view pooled; smaller is better"
        ),
        files=[
            save_answer(run, "views", numbers, steps=steps, block=block, seed=seed),
            plot_view_spread(infos, folder / "views.png", marked=list(where)),
        ],
    )


def view_text(view: View) -> str:
    """Return a view with its fields, for people."""
    return f"{VIEWS.name_of(type(view))}({', '.join(f'{key}={value:g}' for key, value in to_mapping(view).items())})"


def _views_of_recipe(run: FinishedRun) -> dict[View, list[str]]:
    """Return the views of the recipe's curricula, each with the curricula that have it."""
    found: dict[View, list[str]] = {}
    for label, spec in run.recipe.curricula().items():
        fields = {key: value for key, value in spec.items() if key != "training"}
        for one in build_views(CURRICULA.build(fields, path=label), run.task.head):
            found.setdefault(one.view, []).append(label)
    return found


def _other_views(run: FinishedRun, names: Sequence[str], used: dict[View, list[str]], asked: _Asked) -> list[View]:
    others = []
    for name in dict.fromkeys(names or VIEWS.names()):
        view = VIEWS.build({"name": name}, path="--view")
        problem = asked.problem(view)
        if problem is not None and names:
            raise ValueError(f"the view {name!r} does not fit this run: {problem}")
        if problem is None and view not in used:
            others.append(view)
    return others


def _batches(run: FinishedRun, steps: int, seed: int) -> Iterator[Batch]:
    """Yield training batches in an order drawn from `seed`, epoch after epoch, whole ones where there are any."""
    data: Any = run.data.train
    size = run.batch_size("train")
    loader = DataLoader(
        data,
        batch_size=size,
        shuffle=True,
        drop_last=len(data) >= size,
        collate_fn=run.data.collator,
        generator=torch.Generator().manual_seed(seed),
    )
    given = 0
    while given < steps:
        for batch in loader:
            yield {key: value.to(run.device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            given += 1
            if given == steps:
                return


class _Asked:
    """The final teacher, asked about batches and about views of them."""

    def __init__(self, run: FinishedRun, batches: Sequence[Batch]) -> None:
        place = run.revisions()[-1]
        assert run.teacher is not None
        run.teacher.enter(place)
        run.teacher.model.to(run.device)
        self.batches = batches
        self.reader = SignalReader(head=run.task.head, teacher=run.teacher, log=LossLog(), device=run.device)
        self.reader.student = run.teacher.model
        given = run.data.processing_class
        tokenizer = given if isinstance(given, PreTrainedTokenizerBase) else None
        self.context = ViewContext(run.task.head, token_ids(tokenizer, run.teacher.config))
        self._clean = [mean_probabilities(self._answers(batch, None)) for batch in batches]

    def problem(self, view: View) -> str | None:
        """Return why a view does not fit; None where it does."""
        if self.context.head not in view.heads:
            return f"it fits {', '.join(sorted(view.heads))}, and the head is {self.context.head}"
        try:
            return view.problem(self.batches[0], self.context)
        except ValueError as error:
            return str(error)

    def means(self, view: View | None, seed: int) -> list[Tensor]:
        """Return the mean probabilities of each step, batch and view pooled. Shapes: (V,) each."""
        if view is None:
            return self._clean
        pooled = []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for batch, clean in zip(self.batches, self._clean, strict=True):
                seen = self._answers(view.augment(batch, self.context), view)
                # Both have the same number of rows.
                pooled.append((clean + mean_probabilities(seen)) / 2)
        return pooled

    def _answers(self, batch: Batch, view: View | None) -> Tensor:
        logits = self.reader.teacher_reading(self.reader.positioned(batch), Wanted(), view).logits
        return select_rows(self.context.head, batch).of(logits)

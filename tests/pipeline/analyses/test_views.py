"""T. stddev of a run's teacher: the recipe's views and others, all on the same batches, each drawn apart."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from analysed_run import parity_run, text_run

from hf_distill.analysis.view_spread import mean_probabilities, view_spread_info
from hf_distill.pipeline.analyses.views import NO_VIEW, analyze_views, view_text
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.views import Cutout, TokenCutMix

STEPS = {"steps": 8, "block": 2}


def with_curricula(run: FinishedRun, **curricula) -> FinishedRun:
    """The same run, of a recipe with other curricula."""
    run.recipe = dataclasses.replace(run.recipe, compare={name: dict(spec) for name, spec in curricula.items()})
    return run


@pytest.fixture
def texts(tmp_path) -> FinishedRun:
    return text_run(tmp_path / "run", "masked_lm", students=(), seeds=(0,))


def kept(answer) -> dict[str, dict]:
    return {row["view"]: row for row in json.loads(answer.files[0].read_text())["models"]}


def test_the_recipes_views_are_marked_and_asked_once(texts):
    view = {"name": "token_cutmix", "alpha": 0.5}
    run = with_curricula(
        texts,
        labels={"name": "labels"},
        cut={"name": "one_shot", "views": view, "training": {"max_steps": 3}},
        picked={"name": "one_shot", "views": [{**view, "pick": {"pools": 2}}, {"name": "token_replacement"}]},
    )
    answer = analyze_views(run, **STEPS)
    where = {name: row["curricula"] for name, row in kept(answer).items()}
    assert where == {
        NO_VIEW: "",
        "token_cutmix(alpha=0.5)": "cut, picked",
        "token_replacement(rate=0.15)": "picked",
        "token_cutmix(alpha=1)": "",
        "embedding_mixup(alpha=1)": "",
    }
    assert [row[1] for row in answer.rows] == sorted(row[1] for row in answer.rows)
    assert [file.name for file in answer.files] == ["views.json", "views.png"]
    assert all(file.is_file() for file in answer.files)


@pytest.mark.slow
def test_views_are_asked_on_batches_of_their_own(texts):
    alone, together = (
        kept(analyze_views(texts, names=names, **STEPS))
        for names in (["token_replacement"], ["token_cutmix", "token_replacement"])
    )
    assert alone["token_replacement(rate=0.15)"] == together["token_replacement(rate=0.15)"]
    assert alone[NO_VIEW] == together[NO_VIEW]
    other = kept(analyze_views(texts, names=["token_replacement"], seed=1, **STEPS))
    assert other[NO_VIEW]["spread"] != alone[NO_VIEW]["spread"]


def test_without_a_view_the_numbers_are_the_final_teachers(tmp_path):
    run = parity_run(tmp_path / "run")
    found = kept(analyze_views(run, names=["mixup"], steps=40, block=5))[NO_VIEW]
    run.teacher.enter(2)
    loader = torch.utils.data.DataLoader(
        run.data.train,
        batch_size=4,
        shuffle=True,
        collate_fn=run.data.collator,
        generator=torch.Generator().manual_seed(0),
    )
    means = [mean_probabilities(run.teacher.logits(batch)) for _ in range(3) for batch in loader][:40]
    assert len(loader) == 16, "40 steps take more than two epochs"
    assert found["spread"] == pytest.approx(view_spread_info(means).spread, rel=1e-6)
    assert (found["blocks"], found["block"]) == (8, 5)


def test_what_does_not_fit_is_not_asked(tmp_path, texts):
    names = set(kept(analyze_views(parity_run(tmp_path / "parity"), **STEPS)))
    assert names == {NO_VIEW, "mixup(alpha=1)"}
    with pytest.raises(ValueError, match="the view 'mixup' does not fit this run: it fits classification, regression"):
        analyze_views(texts, names=["mixup"], **STEPS)
    with pytest.raises(ValueError, match="Unknown view 'mixip'"):
        analyze_views(texts, names=["mixip"], **STEPS)


def test_a_run_leaves_the_random_state(texts):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    analyze_views(texts, names=["token_cutmix"], **STEPS)
    assert torch.equal(torch.rand(3), expected)


def test_people_can_tell_the_fields_of_a_view():
    assert view_text(TokenCutMix(alpha=0.25)) == "token_cutmix(alpha=0.25)"
    assert view_text(Cutout(size=4)) == "cutout(size=4)"

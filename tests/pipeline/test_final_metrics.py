from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import untaught
from torch.utils.data import Subset

from hf_distill.pipeline.cells import build_trainer, cells_of, task_of
from hf_distill.pipeline.final_metrics import final_metrics, mean_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.tasks import HeldOut, TaskData
from hf_distill.training.switching import held_out_points


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TaskData]:
    recipe = untaught(tmp_path_factory.mktemp("run"))
    task, workspace = task_of(recipe), Workspace(Path(recipe.output_dir))
    trainer = build_trainer(cells_of(recipe)[0], recipe, task, None, workspace)
    trainer.train()
    return trainer, task.prepare(seed=0, cache_dir=workspace.cache)


def part(data: TaskData, rows: range, **fields: Any) -> HeldOut:
    return HeldOut(examples=Subset(data.validation, rows), compute_metrics=data.compute_metrics, **fields)


def test_a_further_set_leaves_the_metrics_of_the_first_one(trained: tuple[Any, TaskData]) -> None:
    trainer, data = trained
    alone = final_metrics(trainer)
    found = final_metrics(trainer, {"again": part(data, range(len(data.validation)))})
    assert {key: found[key] for key in alone} == alone
    assert found["accuracy_again"] == alone["accuracy"]
    assert found["loss_again"] == pytest.approx(alone["loss"], rel=1e-6)
    assert set(found) == {*alone, "accuracy_again", "loss_again"}


def test_a_further_set_becomes_no_point_of_the_curve(trained: tuple[Any, TaskData]) -> None:
    trainer, data = trained
    before = held_out_points(trainer.state.log_history)
    final_metrics(trainer, {"part": part(data, range(50))})
    assert held_out_points(trainer.state.log_history) == before


def test_each_set_is_measured_by_its_own_metrics(trained: tuple[Any, TaskData]) -> None:
    trainer, data = trained
    usual = trainer.compute_metrics
    counted = HeldOut(examples=Subset(data.validation, range(50)), compute_metrics=lambda p: {"n": len(p.predictions)})
    assert final_metrics(trainer, {"part": counted})["n_part"] == 50
    assert trainer.compute_metrics is usual


def test_the_mean_of_a_group_holds_no_set_outside_of_it(trained: tuple[Any, TaskData]) -> None:
    trainer, data = trained
    further = {
        "one": part(data, range(30), group="languages"),
        "two": part(data, range(30, 90), group="languages"),
        "test": part(data, range(90, 250)),
    }
    found = final_metrics(trainer, further)
    assert found["accuracy_mean_languages"] == pytest.approx((found["accuracy_one"] + found["accuracy_two"]) / 2)
    assert not any(key.endswith("mean_None") for key in found)


def test_a_metric_that_one_set_lacks_does_not_break_the_mean() -> None:
    assert mean_of([{"f1": 0.5, "top": 1.0}, {"f1": 0.7}]) == {"f1": pytest.approx(0.6)}

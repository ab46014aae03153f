from __future__ import annotations

import evaluate
import pytest

from hf_distill.metrics import METRICS, load_metric, metric_folder


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_is_fetched_from_the_hub(name: str) -> None:
    # The tests run offline: what is not in the folder cannot be loaded.
    assert isinstance(evaluate.load(str(metric_folder(name))), evaluate.EvaluationModule)


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_can_be_loaded_by_its_name(name: str) -> None:
    module = load_metric(name)
    assert module.name == name
    assert module.description


def test_every_folder_is_listed() -> None:
    folders = {path.parent.name for path in metric_folder("accuracy").parent.glob("*/*.py")}
    assert folders == set(METRICS)


def test_a_misspelt_metric_gives_a_hint() -> None:
    with pytest.raises(ValueError, match="mean `accuracy`"):
        metric_folder("acuracy")

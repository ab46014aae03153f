"""The benchmark's ways must do the same work: a ratio of two different works would say nothing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def contenders() -> ModuleType:
    return load("head_contenders")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)  # where a script finds its neighbours
        spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:You are importing from 'trl.experimental'")
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_every_way_gives_the_same_gradients(contenders, beta):
    heads = contenders.Heads(24, 60, beta)
    gradients = {}
    for name in contenders.available(beta):
        heads.ways[name]()
        if name != contenders.FLOOR:
            gradients[name] = [leaf.grad.clone() for leaf in heads.leaves]
    assert {"tiles", "whole logits"} <= set(gradients)
    for found in gradients.values():
        for one, other in zip(found, gradients["whole logits"], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_the_floor_is_the_four_products(contenders):
    from head_cases import Watch

    heads = contenders.Heads(24, 60, 0.0)
    with Watch() as watch:
        heads.products()
    assert watch.products == 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_extra_memory_is_what_a_way_needs_at_most():
    # In a process of its own: what one has freed before it may take again, and its resident memory does not rise.
    measure = "side_by_side.extra_memory(lambda: torch.ones(50 * 2**18).sum())"
    code = f"import side_by_side, torch; torch.ones(1); print({measure})"
    found = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=True, capture_output=True, text=True)
    assert 45 < float(found.stdout) < 60


def test_times_are_taken_in_turns():
    order: list[str] = []
    seconds = load("side_by_side").times_in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_the_median_of_ratios_within_a_round():
    assert load("side_by_side").ratio({"a": [1.0, 8.0, 3.0], "b": [1.0, 2.0, 1.0]}, "a", "b") == 3.0

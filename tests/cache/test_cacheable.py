from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import examples, revisions_at, save_teacher_run
from cache_cases import LOGITS, Counted, make_walk
from torch.utils.data import Dataset
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_distill.cache.cacheable import check_plan_cacheable, check_repeatable, reads_probabilities_only
from hf_distill.cache.codecs import CODECS
from hf_distill.cache.targets import cache_targets
from hf_distill.curricula import CURRICULA, PlanContext
from hf_distill.objectives import OBJECTIVES
from hf_distill.teachers import TeacherSequence

CODEC = {name: CODECS.build({"name": name}, path="codec") for name in ("logits", "hidden", "top_k")}
RAW = {"logit_mse", "margin_mse", "teacher_mean_squared_error"}


def check(curriculum: dict[str, Any], codec: str = "logits") -> None:
    context = PlanContext(
        head="classification", max_steps=100, revisions=revisions_at(10, 20, None), student_layers=2, teacher_layers=2
    )
    check_plan_cacheable(CURRICULA.build(curriculum, path="curriculum").plan(context), codec=CODEC[codec])


@pytest.mark.parametrize(
    "curriculum",
    [
        {"name": "one_shot", "label_mix": 0.5, "temperature": 2.0},
        {"name": "two_shot", "revision": 10, "steps": 40},
        {"name": "n_shot", "steps": 10},
        {"name": "annealing"},
        {"name": "continuation"},
        {"name": "one_shot", "objectives": [{"name": "forward_kl"}, {"name": "logit_mse", "weight": 0.1}]},
    ],
    ids=lambda curriculum: curriculum["name"],
)
@pytest.mark.parametrize("codec", ["logits", "hidden"])
def test_curricula_on_logits_are_cached(curriculum: dict[str, Any], codec: str) -> None:
    check(curriculum, codec)
    assert CODEC[codec].reads == codec


@pytest.mark.parametrize(
    ("head", "said"),
    [("question_answering", "as wide as each batch is padded"), ("seq2seq_lm", "depend on the decoder's input too")],
)
def test_targets_without_an_address_or_a_width_are_refused_before_any_work(
    tmp_path: Path, head: str, said: str
) -> None:
    teacher = Counted(save_teacher_run(tmp_path / "teacher", head))
    walk = make_walk(tmp_path / "walk", head, teacher, examples(head, count=16))
    with pytest.raises(
        ValueError, match=f"the targets of a {head} teacher are not cached: its targets .*{said}.*; let"
    ):
        cache_targets(tmp_path / "cache", [walk], codec=LOGITS)
    assert not teacher.seen and not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("curriculum", "said"),
    [
        (
            {"name": "adaptive", "metric": "loss", "level": 0.1},
            r"adaptive curriculum moves on when the student is ready.*use n_shot or two_shot",
        ),
        (
            {"name": "one_shot", "objectives": [{"name": "hidden_mse", "projector": "linear", "layers": [[1, 2]]}]},
            r"reads teacher\.hidden_states, but only what objectives on logits read is cached",
        ),
        (
            {"name": "one_shot", "objectives": [{"name": "forward_kl"}, {"name": "attention_kl"}]},
            r"reads teacher\.attentions",
        ),
        ({"name": "extraction", "layers": "uniform", "steps": 20}, r"reads teacher\.hidden_states"),
    ],
    ids=["adaptive", "hidden", "attentions", "extraction"],
)
def test_what_is_not_known_beforehand_or_not_kept_is_refused(curriculum: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(curriculum)


@pytest.mark.parametrize("name", ["logit_mse", "margin_mse"])
def test_raw_logits_cannot_be_learned_from_probabilities(name: str) -> None:
    curriculum = {"name": "one_shot", "objectives": [{"name": "forward_kl"}, {"name": name}]}
    check(curriculum, "hidden")
    with pytest.raises(ValueError, match=r"compares raw logits .* use the codec `logits` or `hidden`"):
        check(curriculum, "top_k")


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "top_k_kl", "generalized_jsd", "decoupled_kd"])
def test_divergences_can(name: str) -> None:
    check({"name": "one_shot", "objectives": [{"name": name}]}, "top_k")
    assert reads_probabilities_only(OBJECTIVES.build({"name": name}, path="objective"))


def test_every_objective_on_logits_is_known_to_be_raw_or_not() -> None:
    kinds = {name: OBJECTIVES.get(name) for name in OBJECTIVES.names()}
    on_logits = [name for name, kind in kinds.items() if "teacher.logits" in kind.needs]
    raw = {name for name in on_logits if not reads_probabilities_only(OBJECTIVES.build({"name": name}, path=""))}
    assert raw == RAW & set(on_logits)
    assert len(on_logits) > 12


# ---- data that is drawn anew ----


class Drawn(Dataset[Any]):
    """Examples of which one token is drawn when they are asked for."""

    def __init__(self, draw: Any) -> None:
        self.data = examples("classification", count=16)
        self.draw = draw

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        item = {name: value.clone() for name, value in self.data[row].items()}
        item["input_ids"][0] = 5 + int(self.draw(row)) % 30
        return item


DRAWN = {
    "python": lambda row: random.randrange(10**6),
    "numpy": lambda row: np.random.randint(10**6),  # noqa: NPY002
    "torch": lambda row: torch.randint(10**6, ()),
}


@pytest.mark.parametrize("generator", DRAWN)
def test_examples_that_are_drawn_anew_are_refused_before_the_teacher_is_asked(tmp_path: Path, generator: str) -> None:
    teacher = Counted(save_teacher_run(tmp_path / "teacher"))
    walk = make_walk(tmp_path / "walk", "classification", teacher, Drawn(DRAWN[generator]))
    with pytest.raises(ValueError, match=r"of the first 16 training examples are others when they are fetched again"):
        cache_targets(tmp_path / "cache", [walk], codec=LOGITS)
    assert teacher.seen == {}
    assert not (tmp_path / "cache").exists()


def test_examples_that_are_a_function_of_their_number_are_taken(tmp_path: Path) -> None:
    teacher = TeacherSequence(str(save_teacher_run(tmp_path / "teacher")))
    walk = make_walk(tmp_path / "walk", "classification", teacher, Drawn(lambda row: row * 7))
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    check_repeatable(walk)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert (np.random.get_state()[1] == states[2]).all()  # noqa: NPY002


def test_an_order_by_length_is_refused_though_it_can_be_drawn_again(tmp_path: Path) -> None:
    teacher = TeacherSequence(str(save_teacher_run(tmp_path / "teacher")))
    data = examples("classification", count=40)
    walk = make_walk(tmp_path / "walk", "classification", teacher, data, train_sampling_strategy="group_by_length")
    assert isinstance(walk._get_train_sampler(), LengthGroupedSampler)
    assert check_repeatable(walk) is None


def test_an_order_that_is_drawn_anew_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a sampler that goes by the global generator, which the student's own dropout would move on."""
    teacher = TeacherSequence(str(save_teacher_run(tmp_path / "teacher")))
    walk = make_walk(tmp_path / "walk", "classification", teacher, examples("classification", count=40))
    monkeypatch.setattr(walk, "_get_train_sampler", lambda *_: LengthGroupedSampler(4, lengths=[12] * 40))
    with pytest.raises(ValueError, match="or their order is, by a sampler of your own"):
        check_repeatable(walk)

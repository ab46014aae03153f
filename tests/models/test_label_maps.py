from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import bert_config, distill_trainer, flat_weights, tiny_model
from tiers import mostly_slow
from transformers import PreTrainedModel

from hf_distill.analysis.revision_scores import score_revisions
from hf_distill.models.label_maps import in_order, label_names, label_order, order_of
from hf_distill.teachers import EnsembleTeacher, LadderTeacher, LiveTeacher

NAMES = ("entailment", "neutral", "contradiction")
SHUFFLED = (2, 0, 1)
"""Which of the right order's classes the other one has in each place."""


def named(model: PreTrainedModel, names: tuple[str, ...]) -> PreTrainedModel:
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    return model


def student() -> PreTrainedModel:
    return named(tiny_model("classification", seed=1), NAMES)


def teacher() -> PreTrainedModel:
    return named(tiny_model("classification", seed=7), NAMES)


def shuffled_teacher() -> PreTrainedModel:
    """The same teacher, its classes in another order and spelt otherwise."""
    model: Any = teacher()
    with torch.no_grad():
        for parameter in (model.classifier.weight, model.classifier.bias):
            parameter.copy_(parameter[list(SHUFFLED)].clone())
    return named(model, tuple(NAMES[place].upper() for place in SHUFFLED))


def losses(folder: Path, source: Any, **config: Any) -> tuple[list[float], torch.Tensor]:
    trainer = distill_trainer(folder, model=student(), teacher=source, **config)
    trainer.train()
    log = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return log, flat_weights(trainer.model)


LABELS_AND_TEACHER = {"name": "one_shot", "objectives": [{"name": "decoupled_kd"}, {"name": "cross_entropy"}]}
WITH_LAYERS = {"name": "one_shot", "objectives": [{"name": "forward_kl"}, {"name": "hidden_mse", "layers": "last"}]}


@pytest.mark.parametrize(
    "config",
    mostly_slow(
        [
            {},
            {"curriculum": LABELS_AND_TEACHER},
            {"curriculum": WITH_LAYERS},
            {"gradient_accumulation_steps": 2, "teacher_window": True},
        ],
        quick=lambda config: not config,
    ),
    ids=["logits", "labels", "layers", "window"],
)
def test_the_order_of_the_teachers_classes_does_not_change_the_loss(tmp_path: Path, config: dict[str, Any]) -> None:
    expected, weights = losses(tmp_path / "a", teacher(), **config)
    found, others = losses(tmp_path / "b", shuffled_teacher(), **config)
    assert found == expected
    assert torch.equal(others, weights)


def test_the_order_of_the_teachers_tags_does_not_change_the_loss(tmp_path: Path) -> None:
    found = []
    for place, turned in enumerate((False, True)):
        source: Any = tiny_model("token_classification", seed=7)
        classes = source.config.num_labels
        names = [f"B-{letter}" for letter in "abcdef"[:classes]]
        order = list(range(classes))[:: -1 if turned else 1]
        with torch.no_grad():
            for parameter in (source.classifier.weight, source.classifier.bias):
                parameter.copy_(parameter[order].clone())
        taught = named(tiny_model("token_classification", seed=1), tuple(names))
        trainer = distill_trainer(
            tmp_path / str(place),
            "token_classification",
            model=taught,
            teacher=named(source, tuple(names[place] for place in order)),
        )
        trainer.train()
        found.append((trainer.state.log_history[0]["loss"], flat_weights(trainer.model)))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def test_the_loss_would_notice_another_order(tmp_path: Path) -> None:
    """Without names the classes are taken by number, and then the order matters."""
    unnamed = named(shuffled_teacher(), ("LABEL_0", "LABEL_1", "LABEL_2"))
    assert losses(tmp_path / "a", unnamed)[0] != losses(tmp_path / "b", teacher())[0]


def test_revisions_are_scored_by_the_classes_of_the_labels(tmp_path: Path) -> None:
    scores = []
    for source in (teacher(), shuffled_teacher()):
        trainer = distill_trainer(tmp_path, model=student(), teacher=source)
        order = trainer.distillation.reader.label_order
        batches = list(trainer.get_train_dataloader())
        scores.append(score_revisions(trainer.teacher, batches, head="classification", order=order))  # type: ignore[arg-type]
    assert scores[0] == scores[1]


def test_members_of_an_ensemble_are_averaged_class_by_class(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="teacher 2 has the classes of teacher 1 in another order"):
        distill_trainer(tmp_path, model=student(), teacher=EnsembleTeacher([teacher(), shuffled_teacher()]))


def test_an_ensemble_in_another_order_is_followed(tmp_path: Path) -> None:
    expected, _ = losses(tmp_path / "a", EnsembleTeacher([teacher(), teacher()]))
    found, _ = losses(tmp_path / "b", EnsembleTeacher([shuffled_teacher(), shuffled_teacher()]))
    # The members' probabilities are averaged in another order.
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_ladder_goes_by_the_right_labels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ladder of teachers goes by the labels"):
        distill_trainer(tmp_path, model=student(), teacher=LadderTeacher([LiveTeacher(shuffled_teacher())]))


# ---- orders ----


@pytest.mark.parametrize(
    ("ours", "theirs", "order"),
    [
        (["a", "b"], ["a", "b"], None),
        (["a", "b", "c"], ["c", "a", "b"], (1, 2, 0)),
        (["not_entailment", "entailment"], ["ENTAILMENT", "Not-Entailment"], (1, 0)),
        (["a", "b"], ["LABEL_0", "LABEL_1"], None),
        (["LABEL_0", "LABEL_1"], ["b", "a"], None),
    ],
)
def test_no_class_is_taken_for_another(ours: list[str], theirs: list[str], order: tuple[int, ...] | None) -> None:
    assert order_of(ours, theirs) == order


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (["a", "b"], ["a", "c"], "'b' only on one side"),
        (["a", "b"], ["a"], "2 classes against 1"),
        (["a b", "a_b"], ["a", "b"], "'a b' stands twice"),
        (["a", "LABEL_1"], ["a", "b"], "'LABEL_1' only on one side"),
    ],
)
def test_names_that_do_not_match_are_not_matched(ours: list[str], theirs: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        order_of(ours, theirs)


def test_a_refusal_shows_both_lists() -> None:
    configs = [bert_config(id2label=dict(enumerate(names))) for names in (("yes", "no"), ("yes", "maybe"))]
    with pytest.raises(ValueError, match=r"\['yes', 'no'\] against \['yes', 'maybe'\].*teacher's id2label"):
        label_order("classification", *configs)
    with pytest.raises(ValueError, match=r"the student has 3 labels and the teacher 2.*num_labels"):
        label_order("classification", bert_config(num_labels=3), configs[0])


def test_the_name_of_a_number_is_not_compared() -> None:
    configs = [bert_config(num_labels=1, id2label={0: name}) for name in ("similarity", "score")]
    assert label_order("regression", *configs) is None


def test_language_models_are_refused_for_labels_that_they_do_not_have() -> None:
    assert label_order("masked_lm", bert_config(num_labels=3), bert_config(num_labels=2)) is None


def test_names_from_json_are_in_the_order_of_their_numbers() -> None:
    assert label_names(bert_config(id2label={"1": "b", "0": "a"})) == ["a", "b"]


def test_logits_are_moved_along_the_dimension_of_classes() -> None:
    logits = torch.arange(12.0).reshape(2, 2, 3)
    assert in_order(logits, None) is logits
    assert torch.equal(in_order(logits, (2, 0, 1))[1, 1], torch.tensor([11.0, 9.0, 10.0]))

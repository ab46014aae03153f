from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from hf_distill import ProgressiveDistillConfig
from hf_distill.pipeline.training_arguments import best_metric_named, checked_training, training_arguments
from hf_distill.seq2seq_trainer import ProgressiveDistillSeq2SeqConfig
from hf_distill.tasks import Parity


def arguments(training: dict[str, Any], path: str = "training") -> ProgressiveDistillConfig:
    return training_arguments(
        {"use_cpu": True, **training},
        task=Parity(),
        output_dir=Path("out"),
        curriculum={"name": "labels"},
        seed=7,
        path=path,
    )


def test_folder_seed_and_curriculum_come_from_the_recipe():
    found = arguments({"max_steps": 12, "learning_rate": 0.5})
    assert (found.output_dir, found.seed, found.data_seed, found.max_steps) == ("out", 7, 7, 12)
    assert found.curriculum_spec() == {"name": "labels"}
    assert found.learning_rate == 0.5


def test_nothing_is_sent_anywhere_unless_asked():
    assert arguments({}).report_to == []
    assert arguments({}).push_to_hub is False


def test_quiet_logs_do_not_take_the_progress_bar_away():
    assert arguments({}).disable_tqdm is False
    assert arguments({"disable_tqdm": True}).disable_tqdm is True


def test_a_misspelt_key_gives_its_place_and_the_nearest_key():
    with pytest.raises(
        ValueError, match=r"^teacher\.train\.training\.max_stepz: unknown key\. Did you mean `max_steps`"
    ):
        arguments({"max_stepz": 3}, path="teacher.train.training")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("learning_rate", "fast", "expected float"),
        ("max_steps", "100", "expected int"),
        ("max_steps", 1.5, "expected int"),
        ("bf16", "yes", "expected true/false"),
        ("eval_steps", "ten", "expected float or null"),
        ("save_steps", 0, "expected steps"),
        ("logging_steps", -1, "expected steps"),
        ("per_device_train_batch_size", 0, "at least 1"),
        ("save_total_limit", -1, "at least 1"),
        ("learning_rate", -1, "at least 0, got -1"),
        ("weight_decay", -0.1, "at least 0"),
        ("max_grad_norm", -1.0, "at least 0"),
        ("warmup_steps", -5, "at least 0"),
        ("dataloader_num_workers", -1, "at least 0"),
        ("max_steps", 0, "at least 1, or -1 to go by num_train_epochs"),
        ("max_steps", -5, "at least 1, or -1"),
        ("num_train_epochs", 0, "more than 0"),
        ("num_train_epochs", -2.5, "more than 0"),
        ("gradient_accumulation_steps", 0, "at least 1"),
        ("at_switch", "reset", "expected 'continue' or 'reset_optimizer' or 'restart'"),
        ("lr_scheduler_kwargs", 3, "expected mapping or text or null"),
    ],
)
def test_a_wrong_value_is_an_error_here_and_not_in_training(key, value, expected):
    """TrainingArguments keeps text for numbers, and the optimizer meets it after the teacher has been trained."""
    with pytest.raises(ValueError, match=rf"^training\.{key}: .*{expected}"):
        arguments({key: value})


def test_a_typo_is_not_answered_with_more_than_a_hundred_keys():
    with pytest.raises(ValueError, match=r"^training\.warm_up: unknown key.*nearest: (\w+, )*warmup_steps") as caught:
        arguments({"warm_up": 3})
    assert len(str(caught.value)) < 250


def test_numbers_as_yaml_writes_them_are_taken():
    found = arguments({"learning_rate": "1e-3", "max_grad_norm": 0, "save_steps": 100, "warmup_steps": 0.1})
    assert (found.learning_rate, found.max_grad_norm, found.save_steps, found.warmup_steps) == (1e-3, 0, 100, 0.1)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"eval_strategy": "sometimes"}, "please select one of"),
        ({"optim": "sgdd"}, "please select one of"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 10, "save_steps": 15},
            "round multiple",
        ),
    ],
    ids=str,
)
def test_what_the_trainer_refuses_is_said_with_its_place(training, said):
    with pytest.raises(ValueError, match=f"^training: .*{said}"):
        arguments(training)


def test_values_at_the_ends_of_their_ranges_are_taken():
    given = {"max_steps": -1, "learning_rate": 0.0, "save_total_limit": None, "max_grad_norm": 0.0, "warmup_steps": 0}
    assert {key: vars(arguments(given))[key] for key in given} == given


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="the package is there")
def test_a_missing_package_is_said_with_its_place():
    with pytest.raises(ValueError, match=r"^training: .*deepspeed"):
        arguments({"deepspeed": {"zero_optimization": {"stage": 1}}})


def test_a_best_metric_that_is_not_there_is_told_from_other_mistakes():
    with (
        pytest.raises(ValueError, match=r"^training\.metric_for_best_model: .*'eval_x'"),
        best_metric_named("training"),
    ):
        raise KeyError("The `metric_for_best_model` training argument is set to 'eval_x', which is not found")
    with pytest.raises(KeyError, match="other"), best_metric_named("training"):
        raise KeyError("other")


def test_the_recipes_own_data_is_not_changed():
    training: dict[str, Any] = {"learning_rate": "1e-3", "lr_scheduler_kwargs": {"a": 1}}
    curriculum = {"name": "labels"}
    training_arguments(training, task=Parity(), output_dir=Path("out"), curriculum=curriculum, seed=0, path="training")
    assert training == {"learning_rate": "1e-3", "lr_scheduler_kwargs": {"a": 1}}
    assert curriculum == {"name": "labels"}


@dataclass(kw_only=True)
class Writing(Parity):
    """A task whose evaluations generate."""

    def config_class(self) -> type[ProgressiveDistillConfig]:
        return ProgressiveDistillSeq2SeqConfig

    def training_defaults(self) -> dict[str, Any]:
        return {"predict_with_generate": True, "generation_max_length": 40}


def test_a_tasks_own_arguments_are_known_and_stand_below_the_recipes():
    given = {"use_cpu": True, "generation_max_length": 20, "generation_num_beams": "4"}
    settings = {"output_dir": Path("out"), "curriculum": {"name": "labels"}, "seed": 0, "path": "training"}
    with pytest.raises(ValueError, match="generation_num_beams"):
        training_arguments(given, task=Writing(), **settings)
    found = training_arguments({**given, "generation_num_beams": 4}, task=Writing(), **settings)
    assert isinstance(found, ProgressiveDistillSeq2SeqConfig)
    assert (found.predict_with_generate, found.generation_max_length, found.generation_num_beams) == (True, 20, 4)
    with pytest.raises(ValueError, match=r"training\.predict_with_generate: unknown key"):
        checked_training({"predict_with_generate": True}, task=Parity(), path="training")

"""The arguments: what cannot work is refused when they are made."""

from __future__ import annotations

import json

import pytest
from builders import distill_config
from transformers import HfArgumentParser, TrainingArguments

from hf_distill import ProgressiveDistillConfig


def test_the_default_is_usual_distillation(tmp_path):
    config = distill_config(tmp_path)
    assert config.curriculum_spec() == {"name": "one_shot"}
    assert config.at_switch == "continue"
    assert isinstance(config, TrainingArguments)


def test_a_curriculum_specification_is_copied(tmp_path):
    spec = {"name": "two_shot", "steps": 3}
    config = distill_config(tmp_path, curriculum=spec)
    config.curriculum_spec()["steps"] = 4
    assert config.curriculum_spec() == spec == {"name": "two_shot", "steps": 3}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"at_switch": "reset"}, "at_switch must be `continue`, `reset_optimizer` or `restart`, got 'reset'"),
        (
            {"head": "causal"},
            "head must be one of classification, regression, token_classification, question_answering",
        ),
        ({"teacher_window_examples": 8}, "teacher_window_examples is 8: it must be positive, and goes with"),
        ({"teacher_window": True, "teacher_window_examples": 0}, "teacher_window_examples is 0: it must be positive"),
        ({"use_liger_kernel": True}, "use_liger_kernel replaces the head's loss and drops the logits"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        distill_config(tmp_path, **overrides)


def test_the_arguments_are_written_as_json(tmp_path):
    config = distill_config(tmp_path, curriculum={"name": "two_shot", "revision": "step8"}, head="masked_lm")
    written = json.loads(config.to_json_string())
    assert written["curriculum"] == {"name": "two_shot", "revision": "step8"}
    assert written["head"] == "masked_lm"


def test_the_arguments_are_read_by_transformers_parser(tmp_path):
    parser = HfArgumentParser(ProgressiveDistillConfig)
    (config,) = parser.parse_dict({"output_dir": str(tmp_path), "curriculum": {"name": "labels"}, "use_cpu": True})
    assert config.curriculum_spec() == {"name": "labels"}


@pytest.mark.parametrize(
    ("launched", "given", "expected"),
    [
        ("bf16", {}, (True, False)),
        ("fp16", {}, (False, True)),
        ("no", {}, (False, False)),
        ("no", {"bf16": True}, (True, False)),
        ("fp16", {"bf16": True}, (True, False)),
    ],
)
def test_the_arguments_say_in_which_precision_a_launched_run_trains(tmp_path, monkeypatch, launched, given, expected):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    config = distill_config(tmp_path, **given)
    assert (config.bf16, config.fp16) == expected
    assert config.mixed_precision == {(True, False): "bf16", (False, True): "fp16"}.get(expected, "no")


@pytest.mark.deepspeed
@pytest.mark.parametrize(
    ("given", "expected"), [({}, 0.3), ({"gradient_clipping": "auto"}, 0.3), ({"gradient_clipping": 0.7}, 0.7)]
)
def test_deepspeed_does_not_clip_to_a_number_that_nobody_gave(tmp_path, given, expected):
    deepspeed = {"zero_optimization": {"stage": 1}, "train_micro_batch_size_per_gpu": "auto", **given}
    config = distill_config(tmp_path, deepspeed=deepspeed, max_grad_norm=0.3)
    assert config.deepspeed_plugin.deepspeed_config["gradient_clipping"] == expected


def test_every_own_field_explains_itself():
    own = set(ProgressiveDistillConfig.__dataclass_fields__) - set(TrainingArguments.__dataclass_fields__)
    assert own == {"curriculum", "at_switch", "head", "on_bad_batch", "teacher_window", "teacher_window_examples"}
    assert all(ProgressiveDistillConfig.__dataclass_fields__[name].metadata["help"] for name in own)

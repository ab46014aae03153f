"""The trainer has the habits of transformers' Trainer; what it learns is tested with the parts it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import distill_config, distill_trainer, examples, flat_weights, save_teacher_run, tiny_model
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, EvalPrediction, Trainer, TrainerCallback

from hf_distill import LiveTeacher, ProgressiveDistillTrainer, TeacherSequence
from hf_distill.trainer import as_teacher, unwrap_peft
from hf_distill.training.distill_state import STATE_NAME, DistillState

TWO_SHOT = {"name": "two_shot", "revision": "checkpoint-10", "steps": 3}
# PEFT reads an attribute that transformers has renamed.
peft_student = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
SAVED = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8, "optim": "adamw_torch", "learning_rate": 5e-3}


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def evaluated(folder: Path, **overrides: Any) -> ProgressiveDistillTrainer:
    """A trainer that evaluates every second step."""
    settings = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 6, "compute_metrics": accuracy}
    held_out = examples("classification", count=5, seed=3)
    return distill_trainer(folder, **{**settings, "eval_dataset": held_out, **overrides})


class Recorder(TrainerCallback):
    """Notes what the Trainer tells its callbacks."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.logs: list[dict[str, float]] = []
        self.evaluations: list[dict[str, float]] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.steps.append(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self.logs.append(dict(logs))

    def on_evaluate(self, args, state, control, metrics=None, **kwargs) -> None:
        self.evaluations.append(dict(metrics))


# ---- habits of the Trainer ----


def test_callbacks_see_steps_losses_parts_and_metrics(tmp_path):
    recorder = Recorder()
    teacher = TeacherSequence(save_teacher_run(tmp_path / "teacher"))
    trainer = evaluated(tmp_path / "run", teacher=teacher, curriculum=TWO_SHOT, callbacks=[recorder])
    trainer.train()
    assert recorder.steps == [1, 2, 3, 4, 5, 6]
    assert [set(point) >= {"eval_loss", "eval_accuracy"} for point in recorder.evaluations] == [True] * 3
    steps = [log for log in recorder.logs if "loss" in log]
    assert [log["curriculum/stage"] for log in steps] == [0, 0, 0, 1, 1, 1]
    assert [log["teacher/step"] for log in steps] == [10, 10, 10, 30, 30, 30]
    for log in steps:
        assert log["objective/forward_kl"] == pytest.approx(log["loss"], rel=1e-5)
        assert log["weight/forward_kl"] == log["temperature/forward_kl"] == 1.0


def test_evaluation_reports_the_label_loss_of_the_stock_trainer(tmp_path):
    """So that curves of different curricula can be laid over one another."""
    student = tiny_model("classification", seed=1)
    held_out = examples("classification", count=6, seed=3)
    ours = distill_trainer(tmp_path / "a", model=student, teacher=tiny_model("classification", seed=2))
    stock = Trainer(model=student, args=distill_config(tmp_path / "b"))
    loss = ours.evaluate(held_out)["eval_loss"]
    assert loss == pytest.approx(stock.evaluate(held_out)["eval_loss"], rel=1e-6)


def test_the_teacher_does_not_run_in_evaluation(tmp_path):
    teacher = tiny_model("classification", seed=2)
    calls: list[int] = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    trainer = evaluated(tmp_path, teacher=teacher, gradient_accumulation_steps=2, per_device_train_batch_size=2)
    trainer.evaluate()
    assert not calls
    trainer.train()
    assert len(calls) == 6 * 2, "one teacher forward for each micro-batch, none for evaluations"
    trainer.evaluate()
    trainer.predict(trainer.eval_dataset)
    assert len(calls) == 6 * 2


def test_predict_gives_the_students_logits(tmp_path):
    held_out = examples("classification", count=5, seed=3)
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=2))
    given = trainer.predict(held_out)
    batch = {key: torch.stack([item[key] for item in held_out]) for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = trainer.model.eval()(**batch).logits
    torch.testing.assert_close(torch.tensor(given.predictions), expected, rtol=0, atol=1e-6)
    assert given.label_ids.tolist() == [0, 1, 2, 0, 1]


def test_the_best_model_is_loaded_at_the_end(tmp_path):
    trainer = evaluated(
        tmp_path,
        teacher=tiny_model("classification", seed=2),
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        save_strategy="steps",
        save_steps=2,
        learning_rate=3.0,
    )
    trainer.train()
    losses = {p["step"]: p["eval_loss"] for p in trainer.state.log_history if "eval_loss" in p}
    best = min(losses, key=losses.get)
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{best}")
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[best], rel=1e-6)


def test_a_student_made_by_model_init_is_trained(tmp_path):
    trainer = ProgressiveDistillTrainer(
        model_init=lambda: tiny_model("classification"),
        teacher=tiny_model("classification", seed=2),
        args=distill_config(tmp_path, curriculum="one_shot"),
        train_dataset=examples("classification"),
    )
    before = flat_weights(tiny_model("classification"))
    trainer.train()
    assert not torch.equal(flat_weights(trainer.model), before)


def test_only_the_student_is_saved_and_plain_transformers_loads_it(tmp_path):
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=2), **SAVED)
    trainer.train()
    trainer.save_model()
    student = trainer.model.state_dict()
    for folder in (tmp_path, tmp_path / "checkpoint-8"):
        assert load_file(folder / "model.safetensors").keys() == student.keys()
        loaded = AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
        assert all(torch.equal(loaded[name], student[name]) for name in student)
    assert (tmp_path / "checkpoint-8" / STATE_NAME).is_file()
    assert not (tmp_path / STATE_NAME).exists()


# ---- resuming ----


@pytest.mark.parametrize("batch", [3, 4], ids=["last step inside an epoch", "last step ends an epoch"])
def test_resuming_a_finished_run_takes_no_step_more(tmp_path, batch):
    settings = {**SAVED, "per_device_train_batch_size": batch, "teacher": tiny_model("classification", seed=2)}
    first = distill_trainer(tmp_path, **settings)
    first.train()
    again = distill_trainer(tmp_path, **settings)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 8
    assert torch.equal(flat_weights(again.model), flat_weights(first.model))


def test_resuming_counts_the_time_of_earlier_sessions(tmp_path):
    settings = {**SAVED, "teacher": tiny_model("classification", seed=2)}
    first = distill_trainer(tmp_path, **settings)
    first.train()
    spent = first.training_seconds
    assert spent > 0
    assert first.training_seconds == spent, "the clock stands still after training"
    again = distill_trainer(tmp_path, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    before = DistillState.load(tmp_path / "checkpoint-6").seconds
    assert again.training_seconds > before > 0
    assert again.state.global_step == 8


def test_resuming_from_nothing_is_refused(tmp_path):
    trainer = distill_trainer(tmp_path)
    with pytest.raises(ValueError, match=r"no whole checkpoint in .* train without resume_from_checkpoint"):
        trainer.train(resume_from_checkpoint=True)


def test_resuming_from_a_checkpoint_of_the_stock_trainer_is_refused(tmp_path):
    args = distill_config(tmp_path, **SAVED)
    Trainer(model=tiny_model("classification"), args=args, train_dataset=examples("classification")).train()
    with pytest.raises(ValueError, match=rf"checkpoint-8 has no {STATE_NAME}.* start from its weights"):
        distill_trainer(tmp_path, **SAVED).train(resume_from_checkpoint=True)


# ---- adapters ----


def lora_student() -> PeftModel:
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query", "value"], init_lora_weights=True)
    return get_peft_model(tiny_model("classification", seed=1, hidden_dropout_prob=0.1), config)


@pytest.mark.slow
@peft_student
def test_an_adapter_is_trained_saved_and_resumed_bitwise(tmp_path):
    teacher = save_teacher_run(tmp_path / "teacher")
    settings = {**SAVED, "curriculum": TWO_SHOT}

    def trainer(name: str) -> ProgressiveDistillTrainer:
        return distill_trainer(tmp_path / name, model=lora_student(), teacher=TeacherSequence(teacher), **settings)

    whole = trainer("whole")
    base = {name: value.clone() for name, value in whole.model.state_dict().items() if "base_layer" in name}
    whole.train()
    assert (tmp_path / "whole" / "checkpoint-8" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "whole" / "checkpoint-8" / "model.safetensors").exists()
    after = whole.model.state_dict()
    assert base
    assert all(torch.equal(after[name], value) for name, value in base.items())

    resumed = trainer("resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    ours = resumed.model.state_dict()
    assert all(torch.equal(ours[name], after[name]) for name in after)

    whole.save_model(str(tmp_path / "adapter"))
    loaded = PeftModel.from_pretrained(tiny_model("classification", seed=1), tmp_path / "adapter")
    stored = {name: value for name, value in loaded.state_dict().items() if "lora" in name}
    assert stored
    assert all(torch.equal(value, after[name]) for name, value in stored.items())


@peft_student
def test_an_adapters_own_base_cannot_be_its_teacher(tmp_path):
    student = lora_student()
    with pytest.raises(ValueError, match="student and teacher are one object"):
        distill_trainer(tmp_path, model=student, teacher=student.get_base_model())


# ---- the teacher ----


def test_the_teacher_is_frozen_in_eval_mode_and_unchanged(tmp_path):
    teacher = tiny_model("classification", seed=2, hidden_dropout_prob=0.5).train()
    before = flat_weights(teacher)
    trainer = distill_trainer(tmp_path, teacher=teacher)
    trainer.train()
    assert not teacher.training
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in teacher.parameters())
    assert torch.equal(flat_weights(teacher), before)
    optimized = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert not optimized & {id(parameter) for parameter in teacher.parameters()}


def test_a_teacher_is_taken_as_model_path_list_or_source(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20))
    live = LiveTeacher(tiny_model("classification", seed=2))
    assert as_teacher(None) is None
    assert as_teacher(live) is live
    assert isinstance(as_teacher(tiny_model("classification", seed=2)), LiveTeacher)
    for given in (str(folder), folder, [str(folder / "checkpoint-10"), str(folder / "checkpoint-20")]):
        teacher = as_teacher(given)
        assert isinstance(teacher, TeacherSequence)
        assert [revision.step for revision in teacher.revisions] == [10, 20]


def test_labels_leave_a_given_teacher_alone(tmp_path):
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=2), curriculum="labels")
    assert trainer.teacher is None
    trainer.train()
    assert trainer.distill_state().revisions == []


def test_student_and_teacher_as_one_object_are_refused(tmp_path):
    model = tiny_model("classification")
    with pytest.raises(ValueError, match=r"one object.*copy\.deepcopy"):
        distill_trainer(tmp_path, model=model, teacher=model)


def test_a_curriculum_with_a_teacher_needs_one(tmp_path):
    with pytest.raises(ValueError, match="'one_shot' learns from a teacher; pass `teacher`, or use 'labels'"):
        distill_trainer(tmp_path, curriculum="one_shot")


def test_an_adaptive_curriculum_needs_evaluations(tmp_path):
    spec = {"name": "adaptive", "level": 0.5}
    with pytest.raises(ValueError, match=r"eval_strategy is 'no'; set eval_strategy and eval_steps"):
        distill_trainer(tmp_path, teacher=tiny_model("classification", seed=2), curriculum=spec)


def test_auto_needs_held_out_data(tmp_path):
    teacher = TeacherSequence(save_teacher_run(tmp_path / "teacher"))
    spec = {"name": "two_shot", "revision": "auto", "steps": 2}
    with pytest.raises(ValueError, match="pass an eval_dataset"):
        distill_trainer(tmp_path / "run", teacher=teacher, curriculum=spec).train()


@peft_student
def test_a_student_that_is_no_transformers_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be a transformers PreTrainedModel or a PEFT model.*got Linear"):
        distill_trainer(tmp_path, model=torch.nn.Linear(2, 2))
    assert unwrap_peft(lora_student()).config.model_type == "bert"

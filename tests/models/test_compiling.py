"""Compiled bodies: the same numbers and names, tiles as before, and nothing that looks inside."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import TorchDynamoPlugin
from builders import distill_trainer, flat_weights, save_teacher_run, tiny_model
from safetensors.torch import load_file
from transformers import PreTrainedModel

from hf_distill import LiveTeacher, TeacherSequence
from hf_distill.models.compiling import body_of, check_layers_are_seen, compile_student

NEEDS_A_COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler (g++)")
HEADS = ("masked_lm", "causal_lm", "classification")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """TrainingArguments leave what to compile in the environment, and dynamo keeps what it has compiled."""
    for name in ("BACKEND", "MODE"):
        monkeypatch.setenv(f"ACCELERATE_DYNAMO_{name}", "no" if name == "BACKEND" else "default")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def calls_of(model: PreTrainedModel) -> list[int]:
    """Return what grows with each call of the model's head by the positions it computes logits of."""
    seen: list[int] = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.logits.shape[:2].numel()))
    return seen


def run(folder, head: str, backend: str | None, **changes):
    student, teacher = tiny_model(head, seed=1), tiny_model(head, seed=7)
    seen = [calls_of(student), calls_of(teacher)]
    compiled = {"torch_compile": True, "torch_compile_backend": backend} if backend else {}
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2, "save_only_model": True}
    trainer = distill_trainer(
        folder,
        head,
        model=student,
        teacher=LiveTeacher(teacher, compiled=backend or False),
        **{**compiled, **settings, **changes},
    )
    trainer.train()
    return trainer, seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "backend"),
    [
        ("masked_lm", "aot_eager"),
        *((head, "eager") for head in HEADS),
        # It compiles for minutes; what it is given is the same for every head.
        pytest.param("masked_lm", "inductor", marks=NEEDS_A_COMPILER),
    ],
)
def test_compiling_keeps_the_update_the_names_and_the_tiles(tmp_path, head, backend):
    plain, _ = run(tmp_path / "plain", head, None)
    compiled, seen = run(tmp_path / "compiled", head, backend)
    for model in (compiled.model, compiled.teacher.model):
        assert body_of(model)._compiled_call_impl is not None
        assert model._compiled_call_impl is None
    torch.testing.assert_close(flat_weights(compiled.model), flat_weights(plain.model), rtol=1e-4, atol=1e-5)
    if head != "classification":
        assert {max(one) for one in seen} == {1}
    files = [load_file(folder / "checkpoint-2" / "model.safetensors") for folder in sorted(tmp_path.iterdir())]
    assert set(files[0]) == set(files[1])


@pytest.mark.slow
def test_the_whole_student_is_not_compiled_once_more(tmp_path):
    """accelerate would wrap head and loss, and the teacher, in one graph each."""
    trainer, _ = run(tmp_path, "masked_lm", "eager")
    assert trainer.model_wrapped is trainer.model
    assert isinstance(trainer.teacher.model, PreTrainedModel)


def test_a_student_is_not_compiled_unasked():
    model = tiny_model("masked_lm")
    assert not compile_student(model, Accelerator(cpu=True))
    assert model.bert._compiled_call_impl is None


@pytest.mark.slow
def test_a_switch_is_heard_by_a_compiled_teacher(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", "masked_lm", steps=(10, 20))
    curriculum = {"name": "two_shot", "revision": "checkpoint-10", "steps": 2}
    weights = []
    for compiled in (False, "eager"):
        teacher = TeacherSequence(folder, compiled=compiled)
        trainer = distill_trainer(tmp_path / str(compiled), "masked_lm", teacher=teacher, curriculum=curriculum)
        trainer.train()
        weights.append(flat_weights(trainer.model))
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ("student", "student.hidden_states, which are read where torch_compile lets nobody look"),
        ("teacher", r"need \['teacher.hidden_states'\], but LiveTeacher provides only"),
    ],
)
def test_layers_are_not_read_inside_of_a_graph(tmp_path, who, message):
    changes = {"torch_compile": True, "torch_compile_backend": "eager"} if who == "student" else {}
    teacher = LiveTeacher(tiny_model("masked_lm"), compiled="eager" if who == "teacher" else False)
    curriculum = {"name": "one_shot", "objectives": [{"name": "hidden_cosine"}]}
    with pytest.raises(ValueError, match=message):
        distill_trainer(tmp_path, "masked_lm", teacher=teacher, curriculum=curriculum, **changes)


def test_a_model_that_is_all_head_is_not_compiled():
    with pytest.raises(ValueError, match="only transformers models are compiled, got Linear"):
        body_of(torch.nn.Linear(1, 1))
    model = tiny_model("masked_lm")
    model.base_model_prefix = "none"
    with pytest.raises(ValueError, match="no base model apart from its head"):
        body_of(model)
    check_layers_are_seen({"teacher.logits", "labels"})


def test_an_engine_that_shards_is_not_compiled():
    state = SimpleNamespace(dynamo_plugin=TorchDynamoPlugin(backend="eager"))
    accelerator = SimpleNamespace(state=state, distributed_type=DistributedType.DEEPSPEED)
    with pytest.raises(ValueError, match="torch_compile does not follow the hooks of DEEPSPEED"):
        compile_student(tiny_model("masked_lm"), accelerator)

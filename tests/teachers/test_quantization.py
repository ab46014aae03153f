"""Quantised teachers: the methods that work on a CPU where their package is there, and the messages where not."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from accelerate import Accelerator
from builders import distill_trainer, examples, flat_weights
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM

from hf_distill import LiveTeacher, TeacherSequence
from hf_distill.teachers.live import content_hash, plain_tensors
from hf_distill.teachers.quantization import build_quantization, replace_parts

STEPS = (10, 20)
METHODS = {
    "torchao": {"quant_method": "torchao", "quant_type": "Int8WeightOnlyConfig"},
    "optimum": {"quant_method": "quanto", "weights": "int8"},
    "bitsandbytes": {"load_in_8bit": True},
}


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not has(package), reason=f"the package {package} is not installed")


PACKAGES = [pytest.param(name, marks=needs(name), id=name) for name in METHODS]
# bitsandbytes says for each layer that it computes in 16 bit.
NOISE = pytest.mark.filterwarnings("ignore:MatMul8bitLt", "ignore::DeprecationWarning")


def model_of(step: int) -> BertForMaskedLM:
    torch.manual_seed(step)
    sizes = {"vocab_size": 40, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForMaskedLM(BertConfig(**sizes, **dropout, num_hidden_layers=2, initializer_range=0.1)).eval()


@pytest.fixture
def folder(tmp_path):
    for step in STEPS:
        model_of(step).save_pretrained(tmp_path / "teacher" / f"checkpoint-{step}")
    return tmp_path / "teacher"


def batch_of() -> dict[str, torch.Tensor]:
    items = examples("masked_lm")
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def error(found: torch.Tensor, step: int) -> float:
    batch = batch_of()
    with torch.no_grad():
        exact = model_of(step)(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return float((found - exact).norm() / exact.norm())


@NOISE
@pytest.mark.parametrize("package", PACKAGES)
def test_a_switch_leaves_neither_the_old_weights_nor_the_unquantised_ones(folder, package):
    teacher = TeacherSequence(folder, quantization=METHODS[package])
    teacher.attach(head="masked_lm", accelerator=Accelerator(cpu=True))
    held = None
    for index in (0, 1, 0):
        teacher.read_ahead(index)
        teacher.prepare(index)
        assert teacher.enter(index) > 0.0
        held = held if held is not None else teacher.model
        assert teacher.model is held, "wrappers hold it"
        assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
        assert 1e-5 < error(teacher.logits(batch_of()), STEPS[index]) < 0.05


@NOISE
@pytest.mark.parametrize("package", PACKAGES)
def test_a_quantised_teachers_logits_are_not_whole(tmp_path, folder, package):
    """Its head stays in floating point, so that a student still learns from it in tiles, through a switch too."""
    teacher = TeacherSequence(folder, quantization=METHODS[package])
    shapes: list = []
    trainer = distill_trainer(
        tmp_path,
        "masked_lm",
        teacher=teacher,
        curriculum={"name": "two_shot", "revision": "checkpoint-10", "steps": 2},
    )
    before = flat_weights(trainer.model)
    teacher.enter(0)
    teacher.model.register_forward_hook(lambda module, inputs, output: shapes.append(output.logits.shape[:2].numel()))
    trainer.train()
    assert set(shapes) == {1}
    assert len(shapes) == 4
    assert trainer.distillation.log.stalls[0] > 0.0
    assert (flat_weights(trainer.model) - before).norm() > 1e-3


@NOISE
@pytest.mark.parametrize("package", PACKAGES)
def test_a_live_quantised_model_can_be_pinned(folder, package):
    config = build_quantization(METHODS[package]).config
    models = [
        AutoModelForMaskedLM.from_pretrained(folder / f"checkpoint-{step}", quantization_config=config)
        for step in (10, 10, 20)
    ]
    hashes = [content_hash(model) for model in models]
    assert hashes[0] == hashes[1] != hashes[2]
    teacher = LiveTeacher(models[0])
    teacher.attach(head="masked_lm", accelerator=Accelerator(cpu=True))
    assert 1e-5 < error(teacher.logits(batch_of()), 10) < 0.05


@NOISE
@pytest.mark.parametrize("package", PACKAGES)
def test_the_size_of_quantised_weights_is_their_own(folder, package):
    """Only what is quantised counts with its new size; scales are left out."""
    quantization = build_quantization(METHODS[package])
    loaded = AutoModelForMaskedLM.from_pretrained(folder / "checkpoint-10", quantization_config=quantization.config)
    actual = sum(plain.nbytes for parameter in loaded.parameters() for plain in plain_tensors(parameter.detach()))
    whole = 4 * model_of(10).num_parameters()
    assert actual < 0.7 * whole
    assert quantization.weight_bytes(model_of(10)) == pytest.approx(actual, rel=0.05)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"quant_method": "int8"}, r"teacher.quantization.quant_method: expected one of .*torchao.*; got 'int8'"),
        (
            {"load_in_4bit": True, "quant_tipe": "nf4"},
            "teacher.quantization.quant_tipe: bitsandbytes_4bit has no such",
        ),
        ({"quant_method": "quanto", "weights": "int3"}, "teacher.quantization: quanto cannot be used here"),
        ({"quant_method": "eetq"}, "teacher.quantization: eetq cannot be used here: .*(eetq|GPU|kernels)"),
    ],
)
def test_what_cannot_work_here_is_found_out_before_training(spec, message):
    with pytest.raises(ValueError, match=message):
        build_quantization(spec, path="teacher.quantization")


@pytest.mark.parametrize("package", [name for name in METHODS if not has(name)] or [None])
def test_a_missing_package_is_named(folder, package):
    if package is None:
        pytest.skip("all packages are installed")
    with pytest.raises(ValueError, match=rf"quantization: .*{package}"):
        TeacherSequence(folder, quantization=METHODS[package])


@needs("torchao")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Int8", "torchao.quantization has no Int8"),
        (None, "expected a class of torchao.quantization"),
        ({"name": "Int4WeightOnlyConfig", "group": 3}, "unexpected keyword argument 'group'"),
    ],
)
def test_a_class_of_torchao_is_not_guessed(kind, message):
    with pytest.raises(ValueError, match=rf"quantization.quant_type: {message}|quantization.quant_type: .*{message}"):
        build_quantization({"quant_method": "torchao", "quant_type": kind})


def test_nothing_is_nothing():
    assert build_quantization(None) is None


def test_quantised_weights_are_not_offloaded(folder, monkeypatch):
    monkeypatch.setattr("hf_distill.teachers.sequence.build_quantization", lambda spec: spec)
    with pytest.raises(ValueError, match="leave `offload` out"):
        TeacherSequence(folder, quantization={"load_in_8bit": True}, offload=True)


def test_another_architecture_does_not_take_the_teachers_place():
    model, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)
    with pytest.raises(ValueError, match="X does not fit the teacher in memory: bias"):
        replace_parts(model, lambda: other, what="X")
    model = torch.nn.Linear(2, 3)
    same = torch.nn.Linear(2, 3)
    replace_parts(model, lambda: same, what="X")
    assert model.weight is same.weight

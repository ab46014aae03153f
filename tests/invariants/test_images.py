"""Image classifiers are distilled as text models are: same denominators, same layers, same early exit, same swaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from builders import distill_trainer, flat_weights
from image_models import CLASSES, image_batch, image_examples, image_model
from tiers import mostly_slow

from hf_distill import TeacherSequence
from hf_distill.analysis.latency import latency_info
from hf_distill.objectives import OBJECTIVES, FeatureObjective
from hf_distill.reading.layers import layers_of

SPLITS = [(8, 1), (2, 4), (1, 8)]
# Batch norm mixes the examples of a micro-batch, so that only models without it can be invariant.
WITHOUT_BATCH_NORM = ("convnext", "vit")
STUDENT: dict[str, dict[str, Any]] = {
    "resnet": {},
    "convnext": {},
    "vit": {"attn_implementation": "eager"},
}
TEACHER: dict[str, dict[str, Any]] = {
    "resnet": {"hidden_sizes": [6, 10]},
    "convnext": {"hidden_sizes": [6, 10]},
    "vit": {"attn_implementation": "eager", "hidden_size": 16, "num_hidden_layers": 4},
}
FIELDS: dict[str, dict[str, Any]] = {
    "hidden_mse": {"projector": "linear"},
    "hidden_cosine": {"projector": "linear"},
    "relation_kl": {"relation_heads": 2},
}
FEATURES = [name for name in OBJECTIVES if issubclass(OBJECTIVES.get(name), FeatureObjective)]


def spec_of(name: str) -> dict[str, Any]:
    return {"name": name, "layers": "uniform", **FIELDS.get(name, {})}


def image_trainer(folder: Path, kind: str, curriculum: Any, **overrides: Any) -> Any:
    given = {
        "model": image_model(kind, seed=1, **STUDENT[kind]),
        "teacher": image_model(kind, seed=7, **TEACHER[kind]),
        "train_dataset": image_examples(),
        "curriculum": curriculum,
        "max_steps": 1,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 8,
        **overrides,
    }
    return distill_trainer(folder, "classification", **given)


def everything_trained(trainer: Any) -> torch.Tensor:
    beside = [parameter.detach().flatten().double() for parameter in trainer.readout_parameters()]
    return torch.cat([flat_weights(trainer.model), *beside])


def updates_of(folder: Path, kind: str, curriculum: Any, *, max_steps: int = 1) -> list[torch.Tensor]:
    """What training does, the same 8 examples of a step split in three ways."""
    updates = []
    for size, steps in SPLITS:
        trainer = image_trainer(
            folder / str(size),
            kind,
            curriculum,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=max_steps,
        )
        before = everything_trained(trainer)
        trainer.train()
        updates.append(everything_trained(trainer) - before)
    return updates


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.norm() > 1e-4
    return ((one - other).norm() / one.norm()).item()


def losses(trainer: Any, key: str = "loss") -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


# ---- the one denominator ----

SPLIT_CASES: list[tuple[str, Any]] = [
    *((kind, {"name": "one_shot", "label_mix": 0.3, "temperature": 4.0}) for kind in WITHOUT_BATCH_NORM),
    *((kind, {"name": "extraction", "steps": 1}) for kind in WITHOUT_BATCH_NORM),
    *(
        (kind, {"name": "one_shot", "objectives": [spec_of(name)]})
        for kind in WITHOUT_BATCH_NORM
        for name in FEATURES
        if name in (*FIELDS, "attention_kl") and (kind == "vit" or name != "attention_kl")
    ),
]


@pytest.mark.parametrize(
    ("kind", "curriculum"),
    mostly_slow(SPLIT_CASES, quick=lambda kind, curriculum: "objectives" not in curriculum),
    ids=str,
)
def test_how_images_are_split_does_not_change_the_update(tmp_path, kind, curriculum):
    stages = 3 if curriculum["name"] == "extraction" else 1  # of one step each
    whole, *others = updates_of(tmp_path, kind, curriculum, max_steps=stages)
    for update in others:
        assert distance(whole, update) < 1e-4


def test_the_warning_about_batch_norm_holds(tmp_path):
    """The task's documentation says that with batch norm the split matters."""
    whole, halves, _ = updates_of(tmp_path, "resnet", {"name": "one_shot"})
    assert distance(whole, halves) > 1e-2


# ---- layers ----


def test_the_value_of_an_image_does_not_depend_on_its_number_of_positions(tmp_path):
    """16 positions in stage 1 and 4 in stage 2: the mean over positions, then over layers and images."""
    same = {"hidden_sizes": [6, 6]}
    student, teacher = (image_model("convnext", seed=seed, **same).eval() for seed in (1, 7))
    data = image_examples()
    pixels = torch.stack([item["pixel_values"] for item in data])
    with torch.no_grad():
        pairs = zip(
            *(model(pixels, output_hidden_states=True).hidden_states[1:] for model in (student, teacher)), strict=True
        )
        expected = torch.stack([(ours - theirs).square().mean() for ours, theirs in pairs]).mean().item()
    curriculum = {"name": "one_shot", "objectives": [{"name": "hidden_mse", "layers": "uniform"}]}
    for size, steps in SPLITS[:2]:
        trainer = image_trainer(
            tmp_path / str(size),
            "convnext",
            curriculum,
            model=image_model("convnext", seed=1, **same),
            teacher=teacher,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
        )
        trainer.train()
        assert losses(trainer, "objective/hidden_mse") == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("kind", ["resnet", "convnext", "vit"])
@pytest.mark.parametrize("name", mostly_slow(FEATURES, quick=lambda name: name == "attention_kl"))
def test_every_objective_on_layers_trains_an_image_classifier(tmp_path, kind, name):
    if name == "attention_kl" and kind != "vit":
        with pytest.raises(ValueError, match=r"attention_kl reads attentions .* does not have; compare"):
            image_trainer(tmp_path, kind, {"name": "one_shot", "objectives": [{"name": name}]})
        return
    trainer = image_trainer(tmp_path, kind, {"name": "one_shot", "objectives": [spec_of(name)]}, max_steps=25)
    trainer.train()
    values = losses(trainer, f"objective/{name}")
    assert len(values) == 25
    assert values[-1] < values[0]


@pytest.mark.parametrize("kind", mostly_slow(["resnet", "convnext", "vit"], quick=lambda kind: kind == "convnext"))
def test_extraction_ends_images_early_and_teaches(tmp_path, kind):
    trainer = image_trainer(
        tmp_path, kind, {"name": "extraction", "steps": 20, "calibration_examples": 8}, max_steps=50
    )
    ran = [0, 0]
    for index, layer in enumerate(layers_of(trainer.model)):
        layer.register_forward_pre_hook(lambda *_, index=index: ran.__setitem__(index, ran[index] + 1))
    trainer.train()
    assert ran == [50, 30], "the second layer runs in the stages behind the first only"
    values = losses(trainer, "objective/hidden_mse")
    assert values[19] < values[0] and values[39] < values[20]
    assert values[0] > 0.5, "standardised targets: predicting their mean gives 1"
    trainer.save_model(str(tmp_path / "saved"))
    assert sorted(path.name for path in (tmp_path / "saved").iterdir() if "safetensors" in path.name) == [
        "model.safetensors"
    ]


def test_stages_of_other_sizes_are_not_compared_position_by_position(tmp_path):
    fine = image_model("convnext", seed=7, patch_size=2)
    curriculum = {"name": "one_shot", "objectives": [{"name": "hidden_mse"}]}
    with pytest.raises(ValueError, match=r"expected \(B, T, width\) and \(B, T\) of the same positions"):
        image_trainer(tmp_path, "convnext", curriculum, teacher=fine).train()
    with pytest.raises(ValueError, match="choose stages of one size"):
        image_trainer(tmp_path, "convnext", {"name": "extraction", "steps": 1}, teacher=fine, max_steps=3).train()


# ---- teachers ----


def test_a_swap_leaves_no_running_statistics_of_another_revision(tmp_path):
    for step in (10, 20):
        model = image_model("resnet", seed=step).train()
        for _ in range(step):
            model(torch.randn(4, 3, 16, 16))
        model.save_pretrained(tmp_path / f"checkpoint-{step}")
    teacher = TeacherSequence(tmp_path)
    teacher.attach(head="classification", accelerator=Accelerator(cpu=True))
    batch = image_batch()
    for index, step in ((0, 10), (1, 20), (0, 10)):
        teacher.enter(index)
        state = teacher.model.state_dict()
        counted = {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")}
        assert counted == {step}
        fresh = type(teacher.model).from_pretrained(tmp_path / f"checkpoint-{step}").eval()
        with torch.no_grad():
            assert torch.equal(teacher.logits(batch), fresh(**batch).logits)
    assert teacher.logits(batch).shape == (4, CLASSES)


def test_teaching_leaves_the_teachers_running_statistics(tmp_path):
    teacher = image_model("resnet", seed=7)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    image_trainer(tmp_path, "resnet", {"name": "one_shot"}, teacher=teacher, max_steps=3).train()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_the_latency_of_images_is_measured(kind):
    info = latency_info(image_model(kind), {**image_batch(count=2), "labels": torch.zeros(2)}, warmup=1, repeats=2)
    assert info["examples"] == 2
    assert info["low_seconds"] > 0

"""A run with views: the published loss, one denominator, one run after a resume, one update on two ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from builders import distill_trainer, examples, flat_weights, tiny_model
from image_models import image_examples, image_model
from killed_run import whole_and_resumed
from launching import found_by_two_ranks
from peft import LoraConfig, get_peft_model
from updates import assert_same_update, update_of
from view_runs import BLANK, TEXT_HEADS, TEXT_VIEWS, equal_texts, step_with, updates

from hf_distill import LiveTeacher
from hf_distill.distillation import Distillation

TAU, GAMMA, ALPHA = 4.0, 0.1, 0.9
# Wang et al. 2020: 0.1·CE(x) + 0.9·[KL(x) + KL(x_mix)], both at temperature 4 with its square.
PUBLISHED: dict[str, Any] = {
    "name": "one_shot",
    "label_mix": GAMMA,
    "temperature": TAU,
    "objectives": [{"name": "forward_kl", "temperature_on": "both"}],
}


def pixels_read(model: torch.nn.Module) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _module, _args, given: seen.append(given["pixel_values"]), with_kwargs=True)
    return seen


def image_trainer(folder: Path, views: Any, **overrides: Any) -> Any:
    given: dict[str, Any] = {
        "model": image_model("vit", seed=1),
        "teacher": image_model("vit", seed=7),
        "train_dataset": image_examples(),
        "curriculum": {**PUBLISHED, "views": views},
        "per_device_train_batch_size": 8,
        "max_steps": 1,
        "learning_rate": 1.0,
        **overrides,
    }
    return distill_trainer(folder, "classification", **given)


# ---- the published loss ----


@pytest.mark.parametrize("name", ["mixup", "cutmix", "cutout"])
def test_the_published_loss_can_be_said(tmp_path, name):
    student, teacher = image_model("vit", seed=1).double(), image_model("vit", seed=7).double().eval()
    reference = image_model("vit", seed=1).double()
    data = [{**row, "pixel_values": row["pixel_values"].double()} for row in image_examples()]
    trainer = image_trainer(
        tmp_path,
        {"name": name},
        model=student,
        teacher=teacher,
        train_dataset=data,
        train_sampling_strategy="sequential",
    )
    read, answered = pixels_read(student), pixels_read(teacher)
    update = update_of(trainer)
    assert len(read) == len(answered) == 2
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(read, answered, strict=True))
    clean, mixed = read
    assert torch.equal(clean, torch.stack([row["pixel_values"] for row in data]))
    assert not torch.equal(clean, mixed)

    def divergence(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = F.softmax(teacher(pixel_values=pixels).logits / TAU, -1)
        answer = F.log_softmax(reference(pixel_values=pixels).logits / TAU, -1)
        return F.kl_div(answer, target, reduction="batchmean") * TAU**2

    entropy = F.cross_entropy(reference(pixel_values=clean).logits, torch.stack([row["labels"] for row in data]))
    loss = GAMMA * entropy + ALPHA * (divergence(clean) + divergence(mixed))
    loss.backward()
    gradient = torch.cat(
        [parameter.grad.flatten() for parameter in reference.parameters() if parameter.grad is not None]
    )
    torch.testing.assert_close(update, -gradient, rtol=1e-9, atol=1e-12)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-6)


def test_a_part_on_a_view_is_logged_under_its_name(tmp_path):
    trainer = image_trainer(tmp_path, {"name": "mixup", "weight": 0.5})
    trainer.train()
    log = trainer.state.log_history[0]
    parts = {key: value for key, value in log.items() if key.startswith("objective/")}
    assert set(parts) == {"objective/forward_kl", "objective/labels", "objective/forward_kl@mixup"}
    assert log["weight/forward_kl@mixup"] == pytest.approx(0.45)
    assert log["loss"] == pytest.approx(sum(log[key.replace("objective", "weight")] * parts[key] for key in parts))


def test_a_view_of_no_weight_costs_no_forward(tmp_path):
    ramp = {"name": "piecewise", "points": [[0.0, 0.0], [0.5, 0.0], [1.0, 1.0]]}
    trainer = image_trainer(tmp_path, {"name": "mixup", "weight": ramp}, max_steps=4, learning_rate=0.01)
    read, answered = pixels_read(trainer.model), pixels_read(trainer.teacher.model)
    trainer.train()
    assert len(read) == len(answered) == 3 + 2, "from the fourth step on, behind the middle of the run"


def test_a_view_that_will_change_nothing_is_found_before_its_weight_has_grown(tmp_path):
    ramp = {"name": "linear", "start": 0.0, "stop": 1.0}
    trainer = image_trainer(tmp_path, {"name": "mixup", "weight": ramp}, per_device_train_batch_size=1, max_steps=3)
    with pytest.raises(ValueError, match="'mixup' would change nothing: a micro-batch of one example"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_evaluation_sees_no_views(tmp_path):
    trainer = image_trainer(tmp_path, {"name": "mixup"}, eval_dataset=image_examples(seed=3))
    read = pixels_read(trainer.model)
    trainer.evaluate()
    assert len(read) == 1


def test_layers_are_compared_on_views(tmp_path):
    """Mixing equal texts changes nothing, so that each part on the view is that on the batch."""
    terms = [{"name": "hidden_mse", "layers": "uniform", "projector": "linear"}, {"name": "attention_kl"}]
    eager = {"attn_implementation": "eager"}
    trainer = distill_trainer(
        tmp_path,
        "masked_lm",
        model=tiny_model("masked_lm", seed=1, **eager),
        teacher=tiny_model("masked_lm", seed=7, hidden_size=32, num_hidden_layers=4, **eager),
        train_dataset=equal_texts("masked_lm"),
        curriculum={"name": "one_shot", "objectives": terms, "views": {"name": "embedding_mixup"}},
        max_steps=2,
    )
    trainer.train()
    for log in trainer.state.log_history[:2]:
        for name in ("hidden_mse", "attention_kl"):
            assert log[f"objective/{name}@embedding_mixup"] == pytest.approx(log[f"objective/{name}"], rel=1e-5)
            assert log[f"objective/{name}"] > 1e-4


# PEFT reads an attribute that transformers has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_reads_its_own_embeddings(tmp_path):
    config = LoraConfig(r=2, target_modules=["query", "word_embeddings"], init_lora_weights=False)
    trainer = distill_trainer(
        tmp_path,
        "masked_lm",
        model=get_peft_model(tiny_model("masked_lm", seed=1), config),
        teacher=tiny_model("masked_lm", seed=7, hidden_size=32),
        train_dataset=equal_texts("masked_lm"),
        curriculum={"name": "one_shot", "views": {"name": "embedding_mixup"}},
        max_steps=2,
    )
    assert update_of(trainer).norm() > 1e-4
    for log in trainer.state.log_history[:2]:
        assert log["objective/forward_kl@embedding_mixup"] == pytest.approx(log["objective/forward_kl"], rel=1e-5)


def test_extraction_has_no_views_before_its_last_stage(tmp_path):
    spec = {"name": "extraction", "steps": 1, "calibration_examples": 8, "views": {"name": "mixup"}}
    trainer = image_trainer(tmp_path, None, curriculum=spec, max_steps=4, learning_rate=0.01)
    read = pixels_read(trainer.model)
    trainer.train()
    assert len(read) == 2 + 2 * 2


# ---- the one denominator ----

SPLITS = [(8, 1), (4, 2), (2, 4)]


@pytest.mark.slow
def test_how_examples_are_split_does_not_change_the_update_of_a_view(tmp_path):
    whole, *others = [updates(tmp_path / str(size), size, steps) for size, steps in SPLITS]
    for other in others:
        for case, update in whole.items():
            assert_same_update(update, other[case])


@pytest.mark.parametrize("head", TEXT_HEADS)
@pytest.mark.parametrize("name", TEXT_VIEWS)
def test_a_view_has_the_number_of_items_of_its_batch(tmp_path, head, name):
    """Where the view is the batch itself, it doubles the teacher's terms."""
    viewed = step_with(tmp_path / "viewed", head, {"views": {"name": name, "weight": 2.0}}, 4, 2)
    tripled = step_with(tmp_path / "plain", head, {"objectives": [{"name": "forward_kl", "weight": 3.0}]}, 4, 2)
    assert_same_update(tripled, viewed)


def test_a_single_example_is_blanked(tmp_path):
    assert_same_update(*(step_with(tmp_path / str(b), "images", {"views": BLANK}, b, 8 // b) for b in (8, 1)))


# ---- with other things ----


@pytest.mark.parametrize("mode", ["loop", "repeat"])
def test_views_and_passes_compose(tmp_path, mode):
    """K passes over the batch, one over the view; R-Drop is still twice intra-distillation with K = 2."""
    updates_of, parts = [], []
    for convention, alpha in (("intra_distillation", 3.0), ("r_drop", 3.0)):
        intra = {"passes": 2, "alpha": alpha, "mode": mode, "convention": convention}
        model = image_model("vit", seed=1, hidden_dropout_prob=0.2)
        trainer = image_trainer(
            tmp_path / convention,
            {"name": "mixup"},
            model=model,
            curriculum={**PUBLISHED, "intra": intra, "views": {"name": "mixup"}},
        )
        read, answered = pixels_read(model), pixels_read(trainer.teacher.model)
        updates_of.append(update_of(trainer))
        assert [len(pixels) for pixels in read] == ([8, 8, 8] if mode == "loop" else [16, 8])
        assert len(answered) == 2
        parts.append(set(trainer.state.log_history[0]))
    assert_same_update(*updates_of, factor=2.0)
    assert {"objective/passes", "objective/forward_kl@mixup"} <= parts[0]


class Stored(LiveTeacher):
    """A teacher that answers for the inputs of its store only."""

    provides = frozenset({"teacher.logits"})


def test_a_stored_teacher_is_not_asked_about_views():
    made = {
        "head": "classification",
        "teacher": Stored(tiny_model("classification")),
        "accelerator": Accelerator(cpu=True),
    }
    Distillation(curriculum={"name": "one_shot"}, **made)
    for name, lacking in (
        ("mixup", r"\['teacher\.live'\]"),
        ("embedding_mixup", r"\['teacher\.embeddings', 'teacher"),
    ):
        with pytest.raises(ValueError, match=f"objectives and views need {lacking}.*Stored provides only"):
            Distillation(curriculum={"name": "one_shot", "views": {"name": name}}, **made)


def test_views_of_labels_are_found_before_training_begins():
    with pytest.raises(ValueError, match="this curriculum has none; use `one_shot`"):
        Distillation(
            head="classification",
            curriculum={"name": "labels", "views": {"name": "mixup"}},
            teacher=None,
            accelerator=Accelerator(cpu=True),
        )


# ---- a resumed run ----

VIEWS = [
    {"name": "token_cutmix", "pick": {"pools": 2, "by": "kl"}},
    {"name": "token_replacement", "weight": {"name": "linear", "start": 0.0, "stop": 1.0}},
    {"name": "embedding_mixup"},
]


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_views(tmp_path):
    undisturbed, resumed = whole_and_resumed(tmp_path, {"name": "n_shot", "steps": 5, "views": VIEWS}, 11)
    ours, theirs = resumed.model.state_dict(), undisturbed.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "objective/forward_kl@token_cutmix" in undisturbed.state.log_history[0]


@pytest.mark.slow
def test_a_run_that_goes_on_from_a_checkpoint_draws_the_same_views(tmp_path):
    weights = []
    for first in (None, 3):
        folder = tmp_path / str(first)
        given = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6, "learning_rate": 0.1}
        given |= {"train_dataset": examples("masked_lm", count=10), "per_device_train_batch_size": 4}
        curriculum = {"name": "one_shot", "views": VIEWS}
        made = {"curriculum": curriculum, "teacher": tiny_model("masked_lm", seed=7), **given}
        if first is not None:
            distill_trainer(folder, "masked_lm", **made).train()
            torch.manual_seed(99)
        trainer = distill_trainer(folder, "masked_lm", **made)
        trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{first}") if first is not None else None)
        weights.append(flat_weights(trainer.model))
    assert torch.equal(*weights)


# ---- two ranks ----


@pytest.mark.multiprocess
@pytest.mark.slow
def test_two_ranks_make_the_update_of_one_with_a_view(tmp_path, tmp_path_factory):
    first, second = found_by_two_ranks("view_runs.py", tmp_path_factory)
    single = updates(tmp_path / "single", 8, 1)
    assert set(first) == {*single, "world"}
    for case, update in single.items():
        assert_same_update(update, first[case])
        assert torch.equal(first[case], second[case])

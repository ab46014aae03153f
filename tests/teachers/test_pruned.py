from __future__ import annotations

import copy

import pytest
import torch
from builders import HEADS, answer_of, distill_trainer, flat_weights, save_teacher_run, tiny_model
from image_models import image_model
from source_cases import batch_of
from torch import nn
from torch.nn.utils import prune
from transformers.pytorch_utils import Conv1D

from hf_distill import LiveTeacher, TeacherSequence
from hf_distill.tasks import ParityMlpConfig, ParityMlpForSequenceClassification
from hf_distill.teachers import PrunedMixTeacher
from hf_distill.teachers.pruned import prunable_weights, zero_smallest


def entered(teacher, head: str = "classification", **settings) -> PrunedMixTeacher:
    source = PrunedMixTeacher(teacher, **settings)
    source.attach(head=head, accelerator=None)
    source.enter(len(source.revisions) - 1)
    return source


def pruned_by_hand(model: nn.Module, rate: float) -> nn.Module:
    """The model with the smallest weights zeroed, by PyTorch's own pruning of what is named here."""
    made = copy.deepcopy(model)
    named = dict(made.named_children())
    inside = nn.ModuleList(named[name] for name in ("bert", "transformer", "encoder", "decoder") if name in named)
    for module in inside.modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            prune.l1_unstructured(module, "weight", amount=rate)
            prune.remove(module, "weight")
    return made.eval()


@pytest.mark.parametrize("head", HEADS)
def test_the_answer_is_the_mix_of_the_teacher_and_its_pruned_copy(head):
    model, batch = tiny_model(head, seed=7).eval(), batch_of(4, head=head)
    full, pruned = (answer_of(one, batch) for one in (model, pruned_by_hand(model, 0.3)))
    source = entered(model, head, rate=0.3, weight=0.6)
    torch.testing.assert_close(source.logits(batch), 0.6 * full + 0.4 * pruned, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(full, pruned, atol=1e-3)


@pytest.mark.parametrize("settings", [{"rate": 0.0}, {"weight": 1.0}])
def test_without_pruning_it_is_the_teacher_bitwise(tmp_path, settings):
    ends = []
    for name in ("alone", "mix"):
        teacher = tiny_model("classification", seed=7)
        source = LiveTeacher(teacher) if name == "alone" else PrunedMixTeacher(teacher, **settings)
        trainer = distill_trainer(tmp_path / name, teacher=source)
        trainer.train()
        ends.append(flat_weights(trainer.model))
    assert torch.equal(*ends)


def test_the_teachers_own_weights_are_untouched(tmp_path):
    model = tiny_model("classification", seed=7)
    before = flat_weights(model)
    trainer = distill_trainer(tmp_path, teacher=PrunedMixTeacher(model, rate=0.5))
    trainer.train()
    assert trainer.teacher.model is model
    assert torch.equal(flat_weights(model), before)


def test_every_layer_loses_its_own_smallest_weights_and_no_more():
    weights = [torch.randn(20, 10), 100 * torch.randn(7, 3, 3, 3)]
    before = [weight.clone() for weight in weights]
    zero_smallest(weights, 0.1)
    for weight, old in zip(weights, before, strict=True):
        gone = weight == 0
        assert int(gone.sum()) == round(0.1 * old.numel())
        assert old[gone].abs().max() < old[~gone].abs().min()
        assert torch.equal(weight[~gone], old[~gone])


def test_embeddings_and_output_heads_are_left_alone():
    for head in HEADS:
        model = tiny_model(head)
        chosen = {weight.data_ptr() for weight in prunable_weights(model)}
        names = {name for name, parameter in model.named_parameters() if parameter.data_ptr() in chosen}
        assert names
        assert not any("embed" in name or "wte" in name or "wpe" in name for name in names)
        assert not any(name.startswith(("classifier", "cls", "lm_head", "score")) for name in names)
        assert all(name.endswith("weight") for name in names)


def test_convolutions_are_pruned():
    model = image_model("resnet")
    chosen = {weight.data_ptr() for weight in prunable_weights(model)}
    kinds = {
        type(m) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m.weight.data_ptr() in chosen
    }
    assert kinds == {nn.Conv2d}, "the classifier is the output head"
    assert len(chosen) == sum(isinstance(module, nn.Conv2d) for module in model.modules())


def test_a_model_without_a_base_model_keeps_its_last_layer():
    model = ParityMlpForSequenceClassification(ParityMlpConfig(input_size=6, width=5, num_labels=2))
    assert [weight.shape for weight in prunable_weights(model)] == [(5, 6)]
    with pytest.raises(ValueError, match="no linear or convolution layer besides its output head"):
        prunable_weights(nn.Sequential(nn.Linear(2, 2)))


# ---- revisions ----


def test_revisions_pass_through_and_each_is_pruned_anew(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20, 30))
    source = PrunedMixTeacher(TeacherSequence(folder), rate=0.4, weight=0.5)
    source.attach(head="classification", accelerator=None)
    assert [(revision.name, revision.step) for revision in source.revisions] == [
        ("checkpoint-10", 10),
        ("checkpoint-20", 20),
        ("checkpoint-30", 30),
    ]
    batch, objects = batch_of(), set()
    for index, step in enumerate((10, 20, 30)):
        source.enter(index)
        expected = entered(tiny_model("classification", seed=step), rate=0.4, weight=0.5).logits(batch)
        torch.testing.assert_close(source.logits(batch), expected)
        objects.add(id(source._pruned))
    assert len(objects) == 1, "the copy is changed in place"


def test_a_curriculum_over_revisions_learns_from_each_mix(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20))
    trainer = distill_trainer(
        tmp_path / "run",
        teacher=PrunedMixTeacher(str(folder)),
        curriculum={"name": "two_shot", "revision": "checkpoint-10", "steps": 2},
    )
    trainer.train()
    assert [entry["teacher/step"] for entry in trainer.state.log_history if "loss" in entry] == [10, 10, 20, 20]


def test_each_revision_pins_its_teacher_and_the_settings(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20))
    mix, other = (PrunedMixTeacher(str(folder), rate=rate).manifest() for rate in (0.1, 0.2))
    plain = TeacherSequence(folder).manifest()
    assert [entry["members"] for entry in mix] == [[entry] for entry in plain]
    commits = [entry["commit"] for entry in (*mix, *other, *plain)]
    assert len(set(commits)) == 6
    assert mix[0]["source"] == "0.7·teacher + 0.3·teacher without 10 % of its weights"


def test_narrowing_narrows_the_teacher(tmp_path):
    folder = save_teacher_run(tmp_path / "teacher", steps=(10, 20, 30))
    source = PrunedMixTeacher(TeacherSequence({"revisions": str(folder), "near_transition": 2}))
    assert source.near_transition == 2
    source.attach(head="classification", accelerator=None)
    source.narrow([source.revisions[0], source.revisions[2]])
    assert [revision.name for revision in source.revisions] == ["checkpoint-10", "checkpoint-30"]
    assert source.near_transition is None
    source.enter(1)
    with pytest.raises(ValueError, match="only a teacher sequence has revisions to choose among, not a LiveTeacher"):
        PrunedMixTeacher(tiny_model("classification")).narrow([])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 1.0}, "rate: expected a share of the weights from 0 to below 1, got 1"),
        ({"rate": -0.1}, "rate: expected"),
        ({"weight": 1.1}, "weight: expected a share of the full teacher from 0 to 1, got 1.1"),
    ],
)
def test_shares_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PrunedMixTeacher(tiny_model("classification"), **settings)


def test_a_piece_of_a_teacher_is_not_pruned(monkeypatch):
    monkeypatch.setattr(LiveTeacher, "is_split", True)
    with pytest.raises(ValueError, match=r"which no rank has of a sharded teacher; leave `sharded` out"):
        entered(tiny_model("classification"))

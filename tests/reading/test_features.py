"""Which layers each term compares, and the projectors that are learned between them: trained, saved, resumed, gone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator, DistributedType
from builders import bert_config, distill_trainer, flat_weights, tiny_model
from safetensors.torch import load_file
from transformers import TrainerCallback

from hf_distill.curricula import Term
from hf_distill.objectives import OBJECTIVES
from hf_distill.reading.features import Features, build_features, map_layers
from hf_distill.reading.model_reading import Wanted
from hf_distill.schedules import Constant

WIDE = {"num_hidden_layers": 4, "hidden_size": 32}
EXAMPLE = {
    "name": "one_shot",
    "objectives": [
        {"name": "forward_kl"},
        {"name": "hidden_mse", "layers": "uniform", "projector": "linear", "weight": 0.5},
        {"name": "relation_kl", "layers": [[2, 4]], "relation_heads": 4},
    ],
}


def term(name: str, **fields) -> Term:
    label = fields.pop("label", name)
    objective = OBJECTIVES.build({"name": name, **fields}, path="x")
    return Term(name=label, objective=objective, weight=Constant(level=1.0))


def features(*terms: Term) -> Features:
    return Features(terms, student=bert_config(attn_implementation="eager"), teacher=bert_config(**WIDE))


def trainer(folder: Path, **overrides):
    settings = {"curriculum": EXAMPLE, "learning_rate": 0.02, "max_steps": 4, "optim": "adamw_torch", **overrides}
    return distill_trainer(folder, "masked_lm", teacher=tiny_model("masked_lm", seed=7, **WIDE), **settings)


# ---- which layers ----


def test_last_uniform_and_given_layers():
    assert map_layers("last", 2, 4, what="x") == [(2, 4)]
    assert map_layers("uniform", 2, 4, what="x") == [(1, 2), (2, 4)]
    assert map_layers([[2, 1], [1, 3]], 2, 4, what="x") == [(2, 1), (1, 3)]


@pytest.mark.parametrize("layers", [[], [[1]], [[3, 4]], [[1, 5]], [[0, 1]], [[1, 1], [1, 1]], [[1, 2, 3]]])
def test_layers_that_do_not_exist_are_refused_with_those_that_do(layers):
    with pytest.raises(ValueError, match=r"mine: `layers` must be .* 1 to 2 and teacher layers 1 to 4, got"):
        map_layers(layers, 2, 4, what="mine")


def test_exactly_the_union_of_the_mapped_layers_is_wanted():
    terms = [
        term("forward_kl"),
        term("relation_kl", layers=[[1, 4], [2, 4]]),
        term("rkd", layers=[[2, 3]]),
        term("attention_kl", over_heads="mean"),
    ]
    plan = features(*terms)
    assert plan.wanted(terms) == Wanted(student=(1, 2), teacher=(3, 4), attentions=True)
    assert plan.wanted(terms[:1]) == Wanted()
    assert plan.wanted(terms[2:3]) == Wanted(student=(2,), teacher=(3,))
    assert plan.wanted(terms[3:]) == Wanted(attentions=True)


def test_logits_alone_need_no_features():
    assert build_features([term("forward_kl")], bert_config(), bert_config(), Accelerator(cpu=True)) is None


def test_two_models_that_cannot_be_compared_are_refused_at_construction(tmp_path):
    with pytest.raises(ValueError, match="width 16 and the teacher's 32; set `projector: linear`"):
        trainer(tmp_path, curriculum={"name": "one_shot", "objectives": [{"name": "hidden_mse"}]})
    with pytest.raises(ValueError, match="the student's width 16 cannot be split into relation_heads = 3"):
        trainer(
            tmp_path, curriculum={"name": "one_shot", "objectives": [{"name": "relation_kl", "relation_heads": 3}]}
        )
    with pytest.raises(ValueError, match="teacher's 'sdpa' attention does not give; load it with attn_implementation"):
        trainer(tmp_path, curriculum={"name": "one_shot", "objectives": [{"name": "attention_kl"}]})


class Recording(TrainerCallback):
    """Notes the projectors' gradient before each optimizer step."""

    def __init__(self, run, norms: list[float]) -> None:
        self.run, self.norms = run, norms

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        gradients = [parameter.grad.flatten() for parameter in self.run.readout_parameters()]
        self.norms.append(torch.cat(gradients).norm().item())


class Sharded:
    """An engine that splits the student."""

    distributed_type = DistributedType.FSDP
    device = torch.device("cpu")


@pytest.mark.parametrize("settings", [{}, {"projector": "linear"}])
def test_an_engine_that_splits_the_student_is_not_refused(settings):
    built = build_features([term("hidden_mse", **settings)], bert_config(), bert_config(), Sharded())
    assert len(built.projectors) == len(settings)


# ---- projectors ----


def test_every_pair_of_layers_of_every_term_has_its_own_projector_and_equal_ones_on_all_ranks():
    terms = [
        term("hidden_mse", projector="linear", layers="uniform"),
        term("hidden_cosine", projector="linear"),
        term("rkd"),
    ]
    torch.manual_seed(1)
    one = features(*terms)
    torch.manual_seed(2)
    other = features(*terms)
    assert list(one.projectors) == ["term0_1_2", "term0_2_4", "term1_2_4"]
    assert all(projector.weight.shape == (32, 16) for projector in one.projectors.values())
    assert torch.equal(flat_weights(one), flat_weights(other))
    assert not torch.equal(one.projectors["term0_2_4"].weight, one.projectors["term1_2_4"].weight)


def test_projectors_learn_and_are_clipped_with_the_student(tmp_path):
    run = trainer(tmp_path, optim="sgd", learning_rate=1.0, max_steps=1, max_grad_norm=0.01)
    before = flat_weights(run.distillation.features), flat_weights(run.model)
    run.train()
    moved = flat_weights(run.distillation.features) - before[0], flat_weights(run.model) - before[1]
    assert moved[0].norm() > 1e-4
    assert torch.cat(moved).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_gradients_of_one_window_do_not_leak_into_the_next(tmp_path):
    """Two steps over the same examples at rate 0 have the same gradient; a leak would double it."""
    run = trainer(tmp_path, optim="sgd", learning_rate=0.0, max_steps=2, per_device_train_batch_size=8)
    norms = []
    run.add_callback(Recording(run, norms))
    run.train()
    assert norms[1] == pytest.approx(norms[0], rel=1e-6)
    assert norms[0] > 1e-4


def test_projectors_are_in_checkpoints_and_nowhere_in_the_exported_student(tmp_path):
    run = trainer(tmp_path, save_strategy="steps", save_steps=2)
    run.train()
    run.save_model(str(tmp_path / "student"))
    saved = load_file(tmp_path / "checkpoint-4" / Features.file_name)
    assert set(saved) == {f"projectors.term1_{pair}.{part}" for pair in ("1_2", "2_4") for part in ("weight", "bias")}
    assert torch.equal(saved["projectors.term1_2_4.weight"], run.distillation.features.projectors["term1_2_4"].weight)
    assert not (tmp_path / "student" / Features.file_name).exists()
    names = set(load_file(tmp_path / "student" / "model.safetensors"))
    assert names <= set(run.model.state_dict())


def test_a_resumed_run_has_the_same_projectors_and_is_the_same_run(tmp_path):
    whole = trainer(tmp_path / "whole", save_strategy="steps", save_steps=2)
    whole.train()
    resumed = trainer(tmp_path / "whole", save_strategy="steps", save_steps=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert torch.equal(flat_weights(resumed.model), flat_weights(whole.model))
    assert torch.equal(flat_weights(resumed.distillation.features), flat_weights(whole.distillation.features))


def test_a_checkpoint_without_projectors_or_with_others_is_refused(tmp_path):
    some = features(term("hidden_mse", projector="linear"))
    with pytest.raises(ValueError, match=f"has no {Features.file_name}"):
        some.load(tmp_path)
    features(term("hidden_mse", projector="linear", layers=[[1, 1]])).save(tmp_path)
    with pytest.raises(ValueError, match="belongs to other layers or widths"):
        some.load(tmp_path)


def test_without_projectors_no_file_is_written(tmp_path):
    none = features(term("relation_kl"))
    none.save(tmp_path)
    assert none.load(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_an_optimizer_of_ones_own_that_does_not_know_the_projectors_is_refused(tmp_path):
    student = tiny_model("masked_lm", seed=1)
    run = trainer(tmp_path, model=student)
    run.optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="does not train the extraction's read-outs or projectors"):
        run.train()

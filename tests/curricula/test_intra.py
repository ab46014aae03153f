"""Intra-distillation and R-Drop through the trainer: what the passes cost, weigh and agree on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import distill_trainer, examples, plan_context, scale_passes, tiny_model
from launching import Found, found_by_two_ranks
from tiers import mostly_slow
from two_ranks_intra import intra_updates
from updates import assert_same_update, update_of

from hf_distill.curricula import Labels
from hf_distill.curricula.intra import Intra, build_intra

DROPOUT: dict[str, dict[str, float]] = {
    "classification": {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.1},
    "regression": {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.1},
    "masked_lm": {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.1},
    "causal_lm": {"resid_pdrop": 0.2, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
}
EVERY_HEAD = pytest.mark.parametrize("head", mostly_slow(DROPOUT, quick=lambda head: head == "causal_lm"))


def one_step(
    folder: Path, head: str, intra: dict[str, Any] | None, *, dropout: bool = True, **overrides: Any
) -> tuple[torch.Tensor, dict[str, float]]:
    """Train one step of plain SGD with rate 1; return the update and the step's log."""
    values: dict[str, Any] = {"curriculum": {"name": "labels"}, "max_steps": 1, "learning_rate": 1.0, **overrides}
    if intra is not None:
        values["curriculum"] = {**values["curriculum"], "intra": intra}
    values.setdefault("model", tiny_model(head, seed=1, **(DROPOUT[head] if dropout else {})))
    trainer = distill_trainer(folder, head, **values)
    return update_of(trainer), trainer.state.log_history[0]


# ---- R-Drop is twice intra-distillation with two passes ----


@EVERY_HEAD
@pytest.mark.parametrize("mode", ["loop", "repeat"])
def test_r_drop_is_twice_intra_distillation(tmp_path, head, mode):
    spec = {"passes": 2, "alpha": 5.0, "mode": mode}
    intra, intra_log = one_step(tmp_path / "intra", head, spec)
    r_drop, r_drop_log = one_step(tmp_path / "r_drop", head, {**spec, "convention": "r_drop"})
    assert intra_log["objective/passes"] > 1e-4, "the passes must differ, or the case shows nothing"
    assert_same_update(intra, r_drop, factor=2.0)
    assert r_drop_log["loss"] == pytest.approx(2.0 * intra_log["loss"], rel=1e-5)


def test_r_drop_is_the_papers_formula(tmp_path):
    """CE_1 + CE_2 + α/2·(KL(1‖2) + KL(2‖1)), from the logits of two forwards with the trainer's own dropout."""
    model = tiny_model("classification", seed=1, **DROPOUT["classification"])
    seen: list[torch.Tensor] = []
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(output.logits.detach().double()))
    data = examples("classification", count=4)
    _, log = one_step(
        tmp_path,
        "classification",
        {"passes": 2, "alpha": 3.0, "convention": "r_drop"},
        model=model,
        train_dataset=data,
        data_collator=lambda items: {key: torch.stack([data[i][key] for i in range(4)]) for key in data[0]},
    )
    labels = torch.stack([item["labels"] for item in data])
    one, two = (torch.log_softmax(logits, -1) for logits in seen)
    entropies = sum(torch.nn.functional.nll_loss(log_p, labels) for log_p in (one, two))
    kl = [(p.exp() * (p - q)).sum(-1).mean() for p, q in ((one, two), (two, one))]
    assert log["loss"] == pytest.approx((entropies + 3.0 * 0.5 * sum(kl)).item(), rel=1e-5)


# ---- the task's loss ----


@EVERY_HEAD
def test_without_weight_the_loss_is_the_mean_over_the_passes(tmp_path, head):
    model = tiny_model(head, seed=1, **DROPOUT[head])
    passes = 3
    _, log = one_step(tmp_path / "zero", head, {"passes": passes, "alpha": 0.0}, model=model)
    assert "objective/passes" not in log
    assert log["loss"] == pytest.approx(log["objective/labels"], rel=1e-6)
    single = tiny_model(head, seed=1, **DROPOUT[head])
    calls = []
    single.register_forward_hook(lambda *_: calls.append(None))
    _, weighed = one_step(tmp_path / "one", head, {"passes": passes, "alpha": 1.0}, model=single)
    assert len(calls) == passes
    # The same dropout was drawn, so the labels' part is the same mean.
    assert weighed["objective/labels"] == pytest.approx(log["objective/labels"], rel=1e-6)
    assert weighed["loss"] == pytest.approx(weighed["objective/labels"] + weighed["objective/passes"], rel=1e-5)


@EVERY_HEAD
def test_without_dropout_more_passes_do_not_change_the_update(tmp_path, head):
    plain, _ = one_step(tmp_path / "plain", head, None, dropout=False)
    many, _ = one_step(tmp_path / "many", head, {"passes": 3, "alpha": 1.0}, dropout=False)
    assert_same_update(plain, many)


def test_the_ramp_follows_the_step(tmp_path):
    trainer = distill_trainer(
        tmp_path,
        curriculum={"name": "labels", "intra": {"passes": 2, "alpha": 5.0, "p": 2.0, "q": 4.0}},
        model=tiny_model("classification", seed=1, **DROPOUT["classification"]),
        max_steps=8,
        learning_rate=0.01,
    )
    trainer.train()
    weights = [entry["weight/passes"] for entry in trainer.state.log_history if "loss" in entry]
    assert weights[0] == 0.0
    assert weights[2] == pytest.approx(1.0)
    assert weights[4:] == [5.0] * 4


# ---- loop and repeat ----


@EVERY_HEAD
def test_loop_and_repeat_are_one_loss(tmp_path, head):
    spec = {"passes": 3, "alpha": 2.0}
    updates = [
        one_step(tmp_path / mode, head, {**spec, "mode": mode}, dropout=False)[0] for mode in ("loop", "repeat")
    ]
    assert_same_update(*updates)


def test_loop_and_repeat_draw_from_one_distribution():
    """Mean disagreement over 40 draws of dropout, in units of its standard error."""
    from hf_distill.curricula import Stage
    from hf_distill.loss.loss_log import LossLog
    from hf_distill.objectives import XDivergence
    from hf_distill.reading.signal_reader import SignalReader, Student

    model = tiny_model("classification", seed=1, **DROPOUT["classification"]).train()
    student = Student(model, model, frozenset({"input_ids", "attention_mask"}))
    reader = SignalReader(head="classification", teacher=None, log=LossLog(), device=torch.device("cpu"))
    items = examples("classification", count=4)
    batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
    found = {}
    for mode in ("loop", "repeat"):
        stage = Stage(name="x", terms=(), passes=3, pass_mode=mode)
        draws = []
        for _ in range(40):
            with torch.no_grad():
                signals, logits = reader.logits(student, batch, stage=stage, needs_teacher=False)
            assert len(signals) == 3
            assert logits.shape == (4, 3)
            draws.append(XDivergence().values(signals[0], temperature=1.0).mean())
        found[mode] = torch.stack(draws).double()
    error = sum(draws.var() / len(draws) for draws in found.values()).sqrt()
    assert (found["loop"].mean() - found["repeat"].mean()).abs() < 4.0 * error
    assert error < 0.2 * found["loop"].mean()


# ---- with a teacher ----


@pytest.mark.parametrize("mode", ["loop", "repeat"])
@pytest.mark.parametrize("head", ["classification", "masked_lm"])
def test_the_teacher_runs_once_for_all_passes(tmp_path, head, mode):
    teacher, calls = tiny_model(head, seed=7), []
    teacher.register_forward_pre_hook(
        lambda _module, _args, given: calls.append(len(given["input_ids"])), with_kwargs=True
    )
    _, log = one_step(
        tmp_path,
        head,
        {"passes": 3, "alpha": 1.0, "mode": mode},
        teacher=teacher,
        curriculum={"name": "one_shot"},
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
    )
    assert calls == [2, 2]
    assert {"objective/forward_kl", "objective/passes"} <= set(log)


def test_r_drop_with_a_teacher_doubles_every_term(tmp_path):
    shared = {"teacher": tiny_model("classification", seed=7), "curriculum": {"name": "one_shot", "label_mix": 0.3}}
    spec = {"passes": 2, "alpha": 2.0}
    intra, _ = one_step(tmp_path / "intra", "classification", spec, **shared)
    r_drop, _ = one_step(tmp_path / "r_drop", "classification", {**spec, "convention": "r_drop"}, **shared)
    assert_same_update(intra, r_drop, factor=2.0)


# ---- rows and micro-batches ----


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_padding_does_not_change_the_disagreement(tmp_path, head):
    """The same examples padded by six positions more; no dropout, so the passes are made to differ by their logits."""
    from hf_distill.objectives import XDivergence
    from hf_distill.reading.signals import Signals, select_rows

    labels = torch.tensor([[5, 6, 7, -100], [8, 9, -100, -100]])
    logits = torch.randn(3, 2, 4, 11, dtype=torch.float64)
    padded_labels = torch.cat([labels, torch.full((2, 6), -100)], 1)
    padded = torch.cat([logits, 50.0 * torch.randn(3, 2, 6, 11, dtype=torch.float64)], 2)
    values = []
    for given, passes in ((labels, logits), (padded_labels, padded)):
        rows = select_rows(head, {"labels": given})
        signals = Signals(student_passes=torch.stack([rows.of(one) for one in passes]))
        values.append(XDivergence().values(signals, temperature=1.0))
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=0.0)


SPLITS = [(8, 1), (2, 4), (1, 8)]


def split_updates(folder: Path, head: str, intra: dict[str, Any]) -> list[torch.Tensor]:
    """Updates of the same eight examples in other micro-batches; the passes differ without any dropout."""
    found = []
    for size, accumulation in SPLITS:
        model = tiny_model(head, seed=1)
        scale_passes(model, passes=intra["passes"])
        update, log = one_step(
            folder / f"{size}",
            head,
            intra,
            model=model,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )
        assert log["objective/passes"] > 1e-3
        found.append(update)
    return found


@EVERY_HEAD
def test_the_weight_does_not_depend_on_the_micro_batch(tmp_path, head):
    updates = split_updates(tmp_path, head, {"passes": 3, "alpha": 5.0})
    for update in updates[1:]:
        assert_same_update(updates[0], update)


def test_the_papers_reduction_depends_on_the_micro_batch(tmp_path):
    """What `reduction: paper` is for: the released code's weight grows with the micro-batch."""
    updates = split_updates(tmp_path, "classification", {"passes": 3, "alpha": 5.0, "reduction": "paper"})
    ratios = [(update.norm() / updates[0].norm()).item() for update in updates[1:]]
    assert all(ratio < 0.9 for ratio in ratios)
    assert ratios[1] < ratios[0]


# ---- dropout that is off ----


@pytest.mark.parametrize(("passes", "mode"), [(2, "loop"), (3, "loop"), (7, "loop"), (3, "repeat")])
def test_passes_that_agree_are_noticed(tmp_path, caplog, passes, mode):
    with caplog.at_level(logging.WARNING):
        spec = {"passes": passes, "alpha": 1.0, "mode": mode}
        one_step(tmp_path, "classification", spec, dropout=False, max_steps=3)
    warnings = [record.message for record in caplog.records if "all passes of the student agree" in record.message]
    assert len(warnings) == 1
    assert "Set the student's dropout (hidden_dropout_prob," in warnings[0]


@EVERY_HEAD
def test_active_dropout_is_not_warned_of(tmp_path, caplog, head):
    with caplog.at_level(logging.WARNING):
        # The ramp's first weight is 0, which says nothing of dropout.
        one_step(tmp_path, head, {"passes": 3, "alpha": 5.0, "p": 2.0, "q": 5.0}, max_steps=3, learning_rate=0.01)
    assert not [record for record in caplog.records if "passes of the student agree" in record.message]


# ---- fields ----


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"passes": 1}, "`passes` must be at least 2"),
        ({"passes": 3, "convention": "r_drop"}, r"R-Drop has 2 passes, got 3; use convention: intra_distillation"),
        ({"p": 2.0}, "needs both `p` and `q`"),
        ({"p": 5.0, "q": 2.0, "alpha": 5.0}, "1 ≤ p < q"),
        ({"alpha": -1.0}, "`alpha` must be ≥ 0"),
        ({"passs": 2}, "Did you mean `passes`"),
        ({"mode": "both"}, r"curriculum\.intra\.mode"),
    ],
)
def test_an_impossible_block_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        build_intra(fields)


def test_a_stage_of_hidden_layers_gets_no_passes():
    stage = Labels().plan(plan_context()).stages[0]
    extended = Intra(passes=3, alpha=2.0).extend(stage, "classification")
    assert (extended.passes, [term.name for term in extended.terms]) == (3, ["labels", "passes"])
    assert extended.terms[1].formula() == "(2)·X(passes)"
    assert build_intra(None) is None


@pytest.mark.parametrize(
    ("head", "reduction", "formula"),
    [
        ("classification", "mean", "X(passes)"),
        ("masked_lm", "paper", "ΣX(passes)"),
        ("regression", "mean", "Var(passes)"),
        ("regression", "paper", "Var(passes)"),
    ],
)
def test_each_head_gets_its_disagreement(head, reduction, formula):
    stage = Labels().plan(plan_context(head=head)).stages[0]
    term = Intra(reduction=reduction).extend(stage, head).terms[-1]
    assert term.objective.formula() == formula
    assert head in term.objective.heads


# ---- two ranks ----


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Found]:
    """What one process found, and the first of two ranks."""
    first, _ = found_by_two_ranks("two_ranks_intra.py", tmp_path_factory)
    return intra_updates(tmp_path_factory.mktemp("single"), micro_batch=8, accumulation=1), first


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["loop", "repeat"])
@pytest.mark.parametrize("head", list(DROPOUT))
def test_two_ranks_make_the_update_of_one_with_three_passes(both, head, mode):
    assert_same_update(*(found[f"{head}/{mode}"] for found in both))

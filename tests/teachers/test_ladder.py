from __future__ import annotations

import pytest
import torch
from builders import HEADS, distill_trainer, examples, flat_weights, tiny_model
from safetensors.torch import load_file
from source_cases import LARGE, SMALL, batch_of, ladder, teacher_model

from hf_distill.reading.signals import IGNORE_INDEX
from hf_distill.teachers import DifficultyRouter, LadderTeacher
from hf_distill.teachers.ladder import RungEdges, difficulty_of, rows_of

HALVES = {"name": "linear", "start": 0.0, "stop": 3.0}


class Forwards:
    """Counts the examples of each forward of some models."""

    def __init__(self, source: LadderTeacher) -> None:
        self.sizes: list[list[int]] = [[] for _ in source.members]
        for sizes, member in zip(self.sizes, source.members, strict=True):
            member.model.register_forward_hook(lambda module, args, out, kept=sizes: kept.append(len(out.logits)))


def of_head(head: str, router: DifficultyRouter | None = None, *, calibrate: bool = True) -> LadderTeacher:
    deeper = {"n_layer": 3} if head == "causal_lm" else LARGE
    smaller = {"n_embd": 8} if head == "causal_lm" else SMALL
    rungs = [tiny_model(head, seed=3, **smaller), tiny_model(head, seed=4), tiny_model(head, seed=5, **deeper)]
    source = LadderTeacher(rungs, router=router or DifficultyRouter(examples=8))
    source.attach(head=head, accelerator=None)
    source.enter(0)
    if calibrate:
        source.calibrate([batch_of(head=head)])
    return source


def experts_heard(source: LadderTeacher, batch: dict) -> list[int]:
    """Which expert each example heard, found from the answers alone; each must be exactly one's."""
    answers = source.logits(batch)
    each = [source.members[rung].logits(batch) for rung in range(len(source.members))]
    heard = []
    for row, answer in enumerate(answers):
        near = [
            rung for rung, one in enumerate(each) if torch.allclose(one[row].float(), answer, rtol=1e-5, atol=1e-6)
        ]
        assert len(near) == 1, "an answer that is no expert's, or several experts'"
        heard += near
    return heard


@pytest.mark.parametrize("head", HEADS)
def test_each_example_hears_exactly_one_expert_the_harder_the_larger(head):
    source, batch = of_head(head), batch_of(head=head)
    heard = experts_heard(source, batch)
    difficulty = difficulty_of(head, source.members[0].logits(batch), batch, by="loss").value_B
    order = [heard[row] for row in difficulty.argsort().tolist()]
    assert order == sorted(order) == [0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("head", HEADS)
def test_difficulty_is_the_loss_on_the_labels_averaged_over_an_examples_positions(head):
    source, batch = of_head(head), batch_of(head=head)
    logits = source.members[0].logits(batch).double()
    found = difficulty_of(head, logits, batch, by="loss").value_B
    answers = [batch[key] for key in ("start_positions", "end_positions") if key in batch]
    for row in range(8):
        scores, labels = logits[row], torch.stack([end[row] for end in answers]) if answers else batch["labels"][row]
        if answers:
            labels = labels.where(labels < batch["attention_mask"][row].sum(), IGNORE_INDEX)
        if head == "regression":
            expected = (scores.squeeze(-1) - labels).square()
        elif head == "classification":
            expected = -scores.log_softmax(-1)[labels]
        else:
            if head == "causal_lm":
                scores, labels = scores[:-1], labels[1:]
            kept = labels != IGNORE_INDEX
            expected = -scores[kept].log_softmax(-1)[torch.arange(int(kept.sum())), labels[kept]].mean()
        torch.testing.assert_close(found[row].double(), expected.double(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
def test_entropy_needs_no_labels(head):
    source = of_head(head, DifficultyRouter(difficulty="entropy", examples=8), calibrate=False)
    unlabelled = {key: value for key, value in batch_of(head=head).items() if key != "labels"}
    source.calibrate([unlabelled])
    assert len(set(experts_heard(source, unlabelled))) == 3
    logits = source.members[0].logits(unlabelled)
    found = difficulty_of(head, logits, unlabelled, by="entropy")
    row = logits[0] if head == "classification" else logits[0][: int(unlabelled["attention_mask"][0].sum())]
    row = row[:-1] if head == "causal_lm" else row
    expected = torch.distributions.Categorical(logits=row).entropy().mean()
    torch.testing.assert_close(found.value_B[0], expected)


def test_the_loss_of_a_batch_without_labels_is_refused():
    source = of_head("classification")
    with pytest.raises(ValueError, match="but the batch has none; use difficulty: entropy"):
        source.logits({key: value for key, value in batch_of().items() if key != "labels"})


def test_a_regression_head_has_no_entropy():
    with pytest.raises(ValueError, match="a regression head has no entropy to go by; use difficulty: loss"):
        of_head("regression", DifficultyRouter(difficulty="entropy"))


def test_every_expert_but_the_smallest_runs_on_its_own_examples_only():
    source, batch = of_head("classification"), batch_of()
    forwards = Forwards(source)
    source.logits(batch)
    assert forwards.sizes == [[8], [3], [3]]


def test_an_expert_that_nobody_chose_does_not_run():
    source, batch = of_head("classification"), batch_of()
    heard = experts_heard(source, batch)
    easy = torch.tensor([row for row, rung in enumerate(heard) if rung == 0])
    forwards = Forwards(source)
    source.logits(rows_of(batch, easy, 8))
    assert forwards.sizes == [[2], [], []]


def test_examples_of_equal_difficulty_hear_one_expert():
    source = of_head("classification", calibrate=False)
    same = {key: value[:1].repeat(8, *[1] * (value.dim() - 1)) for key, value in batch_of().items()}
    source.calibrate([same])
    forwards = Forwards(source)
    source.logits(same)
    assert forwards.sizes == [[8], [], []]


def test_which_examples_share_a_batch_does_not_change_who_is_heard():
    source, batch = of_head("classification"), batch_of()
    whole = experts_heard(source, batch)
    order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
    shuffled = experts_heard(source, rows_of(batch, order, 8))
    assert [shuffled[order.tolist().index(row)] for row in range(8)] == whole
    alone = [experts_heard(source, rows_of(batch, torch.tensor([row]), 8))[0] for row in range(8)]
    assert alone == whole


def test_experts_open_as_training_goes_on():
    source, batch = of_head("classification", DifficultyRouter(examples=8, open=HALVES)), batch_of()
    heard = {}
    for progress in (0.0, 0.3, 0.5, 0.8, 1.0):
        source.at(progress)
        heard[progress] = sorted(set(experts_heard(source, batch)))
    assert heard == {0.0: [0], 0.3: [0], 0.5: [0, 1], 0.8: [0, 1, 2], 1.0: [0, 1, 2]}
    source.at(0.5)
    static = experts_heard(of_head("classification"), batch)
    assert experts_heard(source, batch) == [min(rung, 1) for rung in static]


@pytest.mark.parametrize("rungs", [1, 3])
def test_a_ladder_of_one_or_of_equal_experts_is_plain_distillation(tmp_path, rungs):
    ends = []
    for name in ("plain", "ladder"):
        models = [tiny_model("classification", seed=7) for _ in range(rungs)]
        teacher = models[0] if name == "plain" else LadderTeacher(models, router=DifficultyRouter(examples=8))
        trainer = distill_trainer(tmp_path / name, teacher=teacher)
        trainer.train()
        ends.append(flat_weights(trainer.model))
    if rungs == 1:
        assert torch.equal(*ends)
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-7)


# ---- the quantiles ----


def test_edges_stand_between_examples_so_that_rounding_moves_nobody():
    edges = RungEdges(3)
    values = torch.tensor([5.0, 1.0, 3.0, 2.0, 6.0, 4.0])
    edges.measure(values)
    assert edges.edges.tolist() == [2.5, 4.5]
    assert edges.rungs(values).tolist() == [2, 0, 1, 0, 2, 1]
    assert edges.rungs(torch.tensor([-1e9, 2.5, 2.6, 4.5, 1e9])).tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("count", [2, 3, 7, 50])
@pytest.mark.parametrize("rungs", [2, 3, 5])
def test_every_rung_has_its_share_of_the_examples(count, rungs):
    edges = RungEdges(rungs)
    values = torch.rand(count)
    edges.measure(values)
    shares = torch.bincount(edges.rungs(values), minlength=rungs)
    assert shares.sum() == count
    if count >= rungs:
        assert (shares - count / rungs).abs().max() <= 1


def test_the_quantiles_come_from_the_first_examples_whatever_their_order_in_training(tmp_path):
    data = examples("classification", count=24)
    edges = []
    for name, size, seed in (("a", 8, 0), ("b", 2, 5)):
        trainer = distill_trainer(
            tmp_path / name,
            teacher=ladder(),
            train_dataset=data,
            per_device_train_batch_size=size,
            per_device_eval_batch_size=size,
            seed=seed,
            max_steps=1,
        )
        trainer.train()
        edges.append(trainer.teacher.state.edges.clone())
    torch.testing.assert_close(*edges, rtol=1e-6, atol=0)
    first = default_edges(data[:8])
    torch.testing.assert_close(edges[0], first, rtol=1e-6, atol=0)


def default_edges(data: list) -> torch.Tensor:
    source = ladder()
    source.attach(head="classification", accelerator=None)
    source.enter(0)
    source.calibrate([{key: torch.stack([row[key] for row in data]) for key in data[0]}])
    return source.state.edges


@pytest.mark.slow
def test_a_checkpoint_keeps_the_quantiles_and_a_new_training_measures_its_own(tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 2}
    trainer = distill_trainer(tmp_path / "run", teacher=ladder(), **saved)
    trainer.train()
    edges = trainer.teacher.state.edges.clone()
    stored = load_file(tmp_path / "run" / "checkpoint-2" / "ladder.safetensors")
    assert torch.equal(stored["edges"], edges)
    other = distill_trainer(
        tmp_path / "other", teacher=trainer.teacher, train_dataset=examples("classification", seed=9)
    )
    other.train()
    assert not torch.equal(trainer.teacher.state.edges, edges)
    resumed = distill_trainer(
        tmp_path / "run", teacher=ladder(), train_dataset=examples("classification", seed=9), **saved
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert torch.equal(resumed.teacher.state.edges, edges)


def test_no_answer_before_the_quantiles_are_known():
    source = of_head("classification", calibrate=False)
    with pytest.raises(ValueError, match="does not know its quantiles yet; `calibrate` it"):
        source.logits(batch_of())


def test_examples_that_tell_nothing_are_refused():
    source, batch = of_head("classification", calibrate=False), batch_of()
    with pytest.raises(ValueError, match="saw 0 counted examples among the first 8"):
        source.calibrate([{**batch, "labels": torch.full_like(batch["labels"], IGNORE_INDEX)}])
    with torch.no_grad():
        source.members[0].model.classifier.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="difficulties that are not finite"):
        source.calibrate([batch])


# ---- the log, and what is refused ----


def test_where_the_choice_falls_is_logged(tmp_path):
    trainer = distill_trainer(tmp_path, teacher=ladder(), per_device_train_batch_size=8, max_steps=2)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [[entry[f"teacher/rung_{rung}"] for rung in (1, 2, 3)] for entry in logged] == [[0.25, 0.375, 0.375]] * 2
    assert trainer.teacher.drain_usage()["teacher/rung_1"] == 0


def test_examples_that_do_not_count_are_not_counted():
    source, batch = of_head("classification"), batch_of()
    batch["labels"][:6] = IGNORE_INDEX
    source.logits(batch)
    assert sum(int(count) for count in source.drain_usage().values()) == 2


def test_rungs_out_of_order_are_refused_before_the_first_step(tmp_path):
    source = LadderTeacher([teacher_model(1), teacher_model(2, **SMALL)])
    trainer = distill_trainer(tmp_path, teacher=source)
    with pytest.raises(ValueError, match="from the smallest expert to the largest, but they have"):
        trainer.train()


def test_a_router_that_opens_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="the 2 experts of the ladder, but 3 gives 3"):
        LadderTeacher([teacher_model(1), teacher_model(2)], router=DifficultyRouter(open=3.0))


def test_the_experts_precisions_may_differ():
    rungs = [teacher_model(3, **SMALL).to(torch.bfloat16), teacher_model(4), teacher_model(5, **LARGE)]
    source = LadderTeacher(rungs, router=DifficultyRouter(examples=8))
    source.attach(head="classification", accelerator=None)
    source.enter(0)
    source.calibrate([batch_of()])
    assert source.logits(batch_of()).dtype == torch.float32
    assert sum(experts_heard(source, batch_of())) > 0

"""Student and teacher on a view: who reads what, how often and in which mode, and which examples are kept."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from accelerate import DistributedType
from builders import HEADS, bert_config, tiny_model, word_tokenizer
from image_models import image_batch, image_model
from view_cases import IDS, text_batch, view_of

from hf_distill.curricula import Stage, Term
from hf_distill.loss.loss_log import LossLog
from hf_distill.objectives import ForwardKL
from hf_distill.reading.signal_reader import SignalReader, Student
from hf_distill.reading.signals import select_rows
from hf_distill.schedules import Constant, Piecewise
from hf_distill.teachers import LiveTeacher
from hf_distill.views import StageView, TokenIds, ViewContext
from hf_distill.views.embedding_mixup import EmbeddingMixup
from hf_distill.views.picking import entropy
from hf_distill.views.reading import ViewReader, answering, terms_by_view
from hf_distill.views.stage_view import Pick

CPU = torch.device("cpu")
STAGE = Stage(name="stage", terms=(), passes=3)
DROPOUT = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}


def calls_of(model: torch.nn.Module) -> list[dict[str, Any]]:
    """What a model is called with, and whether it is in training mode and under autograd."""
    seen: list[dict[str, Any]] = []

    def note(module: Any, _args: Any, given: dict[str, Any]) -> None:
        seen.append({**given, "training": module.training, "gradient": torch.is_grad_enabled()})

    model.register_forward_pre_hook(note, with_kwargs=True)
    return seen


class Reading:
    """A view reader with a student and a teacher that are listened to."""

    def __init__(self, name: str, student: Any, teacher: Any, head: str, *, pick: Pick | None = None) -> None:
        self.view = StageView(name=name, view=view_of(name), pick=pick or Pick(pools=1))
        self.student = Student(student.train(), student, frozenset(inspect.signature(student.forward).parameters))
        source = LiveTeacher(teacher)
        source.attach(head=head, accelerator=None)
        source.enter(0)
        self.reader = SignalReader(head=head, teacher=source, log=LossLog(), device=CPU)
        self.reader.student = student
        self.views = ViewReader(self.reader, [self.view])
        self.views.context = ViewContext(head, IDS)
        self.seen, self.heard = calls_of(student), calls_of(teacher)

    def read(self, batch: dict[str, torch.Tensor]) -> Any:
        return self.views.read(self.student, batch, self.view, stage=STAGE, terms=())


def text_reading(name: str, head: str, **fields: Any) -> Reading:
    wide = {"n_embd": 32} if head == "causal_lm" else {"hidden_size": 32}
    return Reading(name, tiny_model(head, seed=1), tiny_model(head, seed=7, **wide), head, **fields)


@pytest.mark.parametrize("head", HEADS)
def test_the_teacher_answers_for_the_view(head):
    reading, batch = text_reading("token_replacement", head), text_batch(head)
    torch.manual_seed(5)
    ids = view_of("token_replacement").augment(batch, ViewContext(head, IDS))["input_ids"]
    assert not torch.equal(ids, batch["input_ids"])
    torch.manual_seed(5)
    (signals,), ratio = reading.read(batch)
    assert [torch.equal(call["input_ids"], ids) for call in (*reading.seen, *reading.heard)] == [True, True]
    rows = select_rows(head, batch)
    expected = reading.reader.teacher.logits(reading.reader.positioned({**batch, "input_ids": ids}))
    assert torch.equal(signals.teacher_logits, rows.of(expected))
    assert ratio is None


def test_a_view_costs_one_forward_and_not_one_a_pass():
    reading = text_reading("token_cutmix", "masked_lm")
    reading.read(text_batch("masked_lm"))
    assert len(reading.seen) == len(reading.heard) == 1
    assert reading.seen[0]["training"] and reading.seen[0]["gradient"]
    assert not reading.heard[0]["gradient"]


@pytest.mark.parametrize("head", sorted(EmbeddingMixup.heads))
def test_models_of_two_widths_read_one_mix(head):
    reading, batch = text_reading("embedding_mixup", head), text_batch(head)
    (signals,), _ = reading.read(batch)
    (seen,), (heard,) = reading.seen, reading.heard
    assert "input_ids" not in seen and "input_ids" not in heard
    assert (seen["inputs_embeds"].shape[-1], heard["inputs_embeds"].shape[-1]) == (16, 32)
    assert ("position_ids" in seen) == (head == "causal_lm")
    assert len(signals.student_logits) == len(select_rows(head, batch).labels_R)
    signals.student_logits.sum().backward()
    assert reading.student.inner.get_input_embeddings().weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in reading.reader.teacher.model.parameters())


# ---- picking ----


@pytest.mark.parametrize("by", ["student_entropy", "teacher_entropy"])
def test_the_most_uncertain_examples_are_kept(by):
    models = image_model("resnet", seed=1), image_model("vit", seed=7)
    reading = Reading("mixup", *models, "classification", pick=Pick(pools=3, by=by))
    batch = {**image_batch(count=5), "labels": torch.arange(5) % 3}
    torch.manual_seed(2)
    drawn = [view_of("mixup").augment(batch, ViewContext("classification"))["pixel_values"] for _ in range(3)]
    candidates = torch.cat(drawn)
    asked = models[0 if by == "student_entropy" else 1]
    with torch.no_grad(), answering(asked):
        scores = torch.cat([entropy(asked(pixels).logits) for pixels in drawn])
    kept = candidates[scores.topk(5).indices.sort().values]
    for seen in (reading.seen, reading.heard):
        seen.clear()
    torch.manual_seed(2)
    reading.read(batch)
    scored = 3
    assert torch.equal(reading.seen[-1]["pixel_values"], kept)
    assert torch.equal(reading.heard[-1]["pixel_values"], kept)
    assert [len(reading.seen), len(reading.heard)] == ([scored + 1, 1] if by == "student_entropy" else [1, scored + 1])


@pytest.mark.parametrize("by", ["student_entropy", "kl"])
def test_scoring_draws_no_dropout_and_leaves_the_running_statistics(by):
    student = image_model("resnet", seed=1)
    reading = Reading("mixup", student, image_model("vit", seed=7), "classification", pick=Pick(by=by))
    student.resnet.embedder.eval()
    reading.read({**image_batch(), "labels": torch.arange(4) % 3})
    assert [call["training"] for call in reading.seen] == [False, False, True]
    assert [call["gradient"] for call in reading.seen] == [False, False, True]
    counted = {int(value) for name, value in student.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counted == {0, 1}, "the one forward that trains"
    assert not student.resnet.embedder.training, "a part that was in eval mode is put into training mode"
    assert student.training and student.classifier.training


def test_one_pool_is_not_scored():
    reading = text_reading("token_cutmix", "masked_lm", pick=Pick(pools=1, by="kl"))
    assert reading.read(text_batch("masked_lm")).ratio is None
    assert len(reading.seen) == len(reading.heard) == 1


@pytest.mark.parametrize("head", ["classification", "masked_lm", "causal_lm"])
def test_what_is_kept_weighs_no_more_than_the_batch(head):
    reading, batch = text_reading("token_replacement", head, pick=Pick(pools=4)), text_batch(head)
    if head == "classification":
        batch["labels"][:2] = -100
    (signals,), ratio = reading.read(batch)
    counted = len(select_rows(head, batch).labels_R)
    assert ratio["label"].item() * len(signals.student_logits) == pytest.approx(counted)
    assert ratio["example"].item() == ratio["batch"].item() == 1.0


# ---- checks ----


def test_a_view_that_changes_nothing_is_noticed_and_breaks_no_later_batch():
    views, batch = text_reading("token_cutmix", "causal_lm").views, text_batch("causal_lm")
    whole, single = {**batch, "labels": batch["input_ids"]}, {key: value[:1] for key, value in batch.items()}
    for wrong, message in (
        (whole, "every attended token of the first"),
        (single, "has no other one to be mixed with"),
    ):
        views.begin(0)
        with pytest.raises(ValueError, match=f"'token_cutmix' would change nothing: .*{message}"):
            views.check(wrong)
    views.begin(0)
    for later in (batch, whole, single):
        views.check(later)
    views.begin(7)
    views.check(single)
    assert views.views, "there is a view to be checked"


class Sharded:
    """An engine with hooks around its forward."""

    distributed_type = DistributedType.FSDP


class Plain:
    """No engine."""

    distributed_type = DistributedType.NO


def test_an_engine_that_shards_embeddings_is_refused():
    models = bert_config(), bert_config()
    with pytest.raises(ValueError, match="looks up embeddings outside of the student's forward, which FSDP does not"):
        text_reading("embedding_mixup", "masked_lm").views.check_models(*models, None, Sharded())
    text_reading("token_cutmix", "masked_lm").views.check_models(*models, None, Sharded())


def test_views_know_the_tokenizer():
    views = text_reading("token_cutmix", "masked_lm").views
    views.check_models(bert_config(), bert_config(vocab_size=30), word_tokenizer("a", "b"), Plain())
    assert views.context == ViewContext("masked_lm", TokenIds(3, (0,)))


def test_terms_of_a_view_are_read_apart():
    """Schedules with lists cannot be keys of a dictionary."""
    ramp = Piecewise(points=[[0.0, 0.0], [1.0, 1.0]])
    one, two = (StageView(name=name, view=view_of("mixup"), weight=ramp) for name in ("one", "two"))
    plain = Term(name="kl", objective=ForwardKL(), weight=Constant(level=1.0))
    terms = [plain, *(Term(name=n, objective=ForwardKL(), weight=ramp, view=v) for v in (one, two) for n in "ab")]
    found = [(view.name, [term.key for term in group]) for view, group in terms_by_view(terms)]
    assert found == [("one", ["a@one", "b@one"]), ("two", ["a@two", "b@two"])]

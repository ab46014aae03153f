"""One call of the teacher for an accumulation window: what is put together, and what is answered by itself."""

from __future__ import annotations

import logging

import pytest
import torch
from builders import HEADS, distill_trainer, examples, flat_weights, tiny_model
from ragged_texts import Collator
from tiers import mostly_slow
from transformers import LlamaConfig, LlamaForCausalLM, default_data_collator

from hf_distill import LiveTeacher
from hf_distill.kernels import HeadRows, LogitRows
from hf_distill.tasks.parity_model import ParityMlpConfig, ParityMlpForSequenceClassification
from hf_distill.teachers import EnsembleTeacher, LadderTeacher
from hf_distill.training.teacher_window import grouped, join, split


def teacher_of(head: str, *, seed: int = 7) -> torch.nn.Module:
    return tiny_model(head, seed=seed, **({"pad_token_id": 0} if head == "causal_lm" else {}))


def run(folder, head: str, *, window: bool, calls: list | None = None, **changes):
    """Train two steps of four micro-batches; return the weights and the loss's parts."""
    teacher = changes.pop("teacher", None) or teacher_of(head)
    if calls is not None:
        for one in getattr(teacher, "members", None) or [teacher]:
            one = one.model if isinstance(one, LiveTeacher) else one
            one.register_forward_pre_hook(
                lambda _module, _args, given: calls.append(tuple(given["input_ids"].shape)), with_kwargs=True
            )
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_steps": 2, **changes}
    settings.setdefault("data_collator", Collator("right"))
    settings.setdefault("train_dataset", examples(head, count=16))
    trainer = distill_trainer(folder, head, teacher=teacher, teacher_window=window, **settings)
    trainer.train()
    logs = [{k: v for k, v in entry.items() if k.startswith(("objective/", "loss"))} for entry in logged(trainer)]
    return flat_weights(trainer.model), logs


def logged(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def assert_same(one, other) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=1e-5, atol=1e-6)
    assert len(one[1]) == 2
    for ours, theirs in zip(one[1], other[1], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("side", mostly_slow(["left", "right", "both"], quick=lambda side: side == "both"))
def test_a_window_in_one_call_makes_the_same_update(tmp_path, head, side):
    """Texts of 4 to 12 tokens in micro-batches of two: the window pads all of them to its own length."""
    objectives = ["teacher_mean_squared_error"] if head == "regression" else ["forward_kl"]
    curriculum = {"name": "one_shot", "objectives": [{"name": name} for name in objectives], "label_mix": 0.25}
    if head == "masked_lm" and side != "right":
        side = "right"  # BERT numbers positions from the first column: padding on the left is another text.
    calls: list = []
    apart = run(tmp_path / "apart", head, window=False, curriculum=curriculum, data_collator=Collator(side))
    together = run(
        tmp_path / "together", head, window=True, calls=calls, curriculum=curriculum, data_collator=Collator(side)
    )
    # Behind padding, a head over positions would have more of them.
    assert [rows for rows, _ in calls] == ([2] * 8 if head == "question_answering" else [8, 8])
    assert_same(together, apart)


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_whole_logits_hear_the_same_window(tmp_path, head):
    """Terms that do not fit into tiles read the kept rows' logits; texts without an attention mask get one."""
    curriculum = {"name": "one_shot", "objectives": [{"name": "forward_kl"}, {"name": "ckd", "weight": 0.1}]}
    collator = {"data_collator": Collator("right", mask=False), "per_device_train_batch_size": 1}
    apart = run(tmp_path / "apart", head, window=False, curriculum=curriculum, **collator)
    calls: list = []
    together = run(tmp_path / "together", head, window=True, calls=calls, curriculum=curriculum, **collator)
    assert [rows for rows, _ in calls] == [4, 4]
    assert_same(together, apart)


def test_several_passes_ask_once(tmp_path):
    curriculum = {"name": "one_shot", "intra": {"passes": 2}}
    calls: list = []
    apart = run(tmp_path / "apart", "masked_lm", window=False, curriculum=curriculum)
    together = run(tmp_path / "together", "masked_lm", window=True, calls=calls, curriculum=curriculum)
    assert [rows for rows, _ in calls] == [8, 8]
    assert_same(together, apart)


def test_a_cap_is_kept_to(tmp_path):
    """Micro-batches of two, at most five examples a call: two micro-batches fit."""
    calls: list = []
    together = run(tmp_path / "together", "masked_lm", window=True, calls=calls, teacher_window_examples=5)
    assert [rows for rows, _ in calls] == [4, 4, 4, 4]
    assert_same(together, run(tmp_path / "apart", "masked_lm", window=False))


def test_a_switch_mixes_no_revisions_in_a_window(tmp_path):
    """The window is answered by the revision of its own step."""
    from builders import save_teacher_run

    teachers = save_teacher_run(tmp_path / "teacher", "masked_lm", steps=(10, 20))
    curriculum = {"name": "two_shot", "revision": "checkpoint-10", "steps": 1}
    runs = [
        run(tmp_path / str(window), "masked_lm", window=window, curriculum=curriculum, teacher=teachers)
        for window in (False, True)
    ]
    assert_same(*runs)


@pytest.mark.parametrize("kind", ["ensemble", "ladder"])
def test_composed_teachers_answer_the_same_window(tmp_path, kind):
    def made():
        members = [LiveTeacher(teacher_of("masked_lm", seed=seed)) for seed in (7, 8)]
        return EnsembleTeacher(members) if kind == "ensemble" else LadderTeacher(members)

    calls: list = []
    apart = run(tmp_path / "apart", "masked_lm", window=False, teacher=made())
    together = run(tmp_path / "together", "masked_lm", window=True, teacher=made(), calls=calls)
    assert_same(together, apart)
    assert (8, 10) in calls


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": [{"name": "forward_kl"}, {"name": "hidden_cosine"}]}, "the objectives compare layers"),
        ({"views": {"name": "token_replacement"}}, "a view of a micro-batch is drawn when its turn comes"),
    ],
)
def test_what_is_answered_alone_is_said_once(tmp_path, caplog, changes, message):
    curriculum = {"name": "one_shot", **changes}
    with caplog.at_level(logging.WARNING, "hf_distill.training.teacher_window"):
        together = run(tmp_path / "together", "masked_lm", window=True, curriculum=curriculum)
    assert [message in record.message for record in caplog.records] == [True]
    torch.manual_seed(0)
    assert_same(together, run(tmp_path / "apart", "masked_lm", window=False, curriculum=curriculum))


def test_a_decoder_without_padding_token_does_not_classify_padding(tmp_path, caplog):
    from transformers import GPT2Config, GPT2ForSequenceClassification

    def model(seed):
        torch.manual_seed(seed)
        sizes = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "num_labels": 3}
        dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
        config = GPT2Config(**sizes, **dropout, initializer_range=0.3)
        return GPT2ForSequenceClassification(config)

    changes = {"per_device_train_batch_size": 1, "data_collator": Collator("right")}
    with caplog.at_level(logging.WARNING, "hf_distill.training.teacher_window"):
        runs = [
            run(tmp_path / str(window), "classification", window=window, model=model(1), teacher=model(7), **changes)
            for window in (True, False)
        ]
    assert ["no pad_token_id" in record.message for record in caplog.records] == [True]
    assert_same(*runs)


def test_models_that_read_no_text_are_not_padded(tmp_path):
    """Their configurations have no padding token, and their inputs are of one shape."""

    def model(seed):
        torch.manual_seed(seed)
        return ParityMlpForSequenceClassification(ParityMlpConfig(input_size=6, width=5))

    data = [{"inputs": torch.randn(6), "labels": torch.tensor(index % 2)} for index in range(16)]
    settings = {"train_dataset": data, "data_collator": default_data_collator}
    calls: list = []
    teacher = model(7)
    teacher.register_forward_pre_hook(lambda _, __, given: calls.append(len(given["inputs"])), with_kwargs=True)
    together = run(tmp_path / "a", "classification", window=True, model=model(1), teacher=teacher, **settings)
    apart = run(tmp_path / "b", "classification", window=False, model=model(1), teacher=model(7), **settings)
    assert calls == [8, 8]
    assert_same(together, apart)


def test_rotary_positions_go_by_columns(tmp_path):
    """Left-padded micro-batches of several lengths, whose position ids are padded on the right."""

    def model(seed):
        torch.manual_seed(seed)
        sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
        return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, initializer_range=0.3))

    runs = [
        run(
            tmp_path / str(window),
            "causal_lm",
            window=window,
            model=model(1),
            teacher=model(7),
            data_collator=Collator("left"),
        )
        for window in (True, False)
    ]
    assert_same(*runs)


# ---- the pieces ----


def ids(*lengths: int) -> list[dict[str, torch.Tensor]]:
    return [{"input_ids": torch.full((2, length), 7)} for length in lengths]


def test_padding_is_not_attended():
    joined = join(ids(2, 3), pad=9)
    assert joined["input_ids"].tolist() == [[7, 7, 9]] * 2 + [[7, 7, 7]] * 2
    assert joined["attention_mask"].tolist() == [[1, 1, 0]] * 2 + [[1, 1, 1]] * 2


def test_equal_lengths_get_no_mask():
    assert set(join(ids(3, 3), pad=9)) == {"input_ids"}


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (
            [{"pixel_values": torch.zeros(2, 3, 4, 4)}, {"pixel_values": torch.zeros(2, 3, 5, 4)}],
            "pixel_values has",
        ),
        ([{"x": torch.zeros(2, 3)}, {"y": torch.zeros(2, 3)}], "different inputs"),
        ([{"x": torch.zeros(2, 3), "cu_seq_lens_q": torch.zeros(3)}] * 2, "cu_seq_lens_q is not one row an example"),
        ([{"x": torch.zeros(2, 3), "max_length_q": 3}] * 2, "max_length_q is not one row an example"),
        ([{**one, "position_ids": one["input_ids"]} for one in ids(2, 3)], "flattened micro-batches"),
    ],
)
def test_what_cannot_be_padded_is_not_joined(batches, message):
    with pytest.raises(ValueError, match=message):
        join(batches, pad=0)


def test_a_head_over_positions_is_not_padded():
    with pytest.raises(ValueError, match="an output for each position"):
        join(ids(2, 3), pad=0, may_pad=False)


def test_a_call_takes_no_more_examples_than_allowed():
    batches = [{"x": torch.zeros(size, 1)} for size in (2, 2, 3, 9, 1)]
    assert [[len(one["x"]) for one in group] for group in grouped(batches, 4)] == [[2, 2], [3], [9], [1]]
    assert len(grouped(batches, None)) == 1


@pytest.mark.parametrize("kind", ["head", "logits"])
def test_a_micro_batch_hears_what_was_said_of_itself(kind):
    weight = torch.randn(5, 4)
    answer = HeadRows(hidden_RH=torch.randn(6, 4), weight_VH=weight)
    parts = split(answer if kind == "head" else LogitRows.of(answer.logits()), [2, 0, 4])
    assert [part.rows for part in parts] == [2, 0, 4]
    torch.testing.assert_close(torch.cat([part.logits() for part in parts]), answer.logits())
    if kind == "logits":
        torch.testing.assert_close(parts[2].read(1, 3), answer.logits()[3:5])

"""The one shift, the one mask: which positions count, and what student and teacher are compared on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.reading.signals import (
    IGNORE_INDEX,
    Signals,
    at_least_float32,
    counted_positions,
    select_rows,
    with_position_ids,
)

X = IGNORE_INDEX


def positions(*shape: int) -> torch.Tensor:
    """Logits that hold their own position, to see which rows were taken."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(*shape, 1)


# ---- select_rows ----


def test_a_masked_model_is_compared_where_there_is_a_label():
    rows = select_rows("masked_lm", {"labels": torch.tensor([[7, X, 9], [X, X, 5]])})
    assert rows.labels_R.tolist() == [7, 9, 5]
    assert rows.of(positions(2, 3)).flatten().tolist() == [0.0, 2.0, 5.0]


def test_a_causal_model_is_compared_with_the_next_token():
    rows = select_rows("causal_lm", {"labels": torch.tensor([[7, 8, 9, X]])})
    assert rows.labels_R.tolist() == [8, 9]
    assert rows.of(positions(1, 4)).flatten().tolist() == [0.0, 1.0]


def test_the_last_position_of_a_causal_model_is_not_compared_with_anything():
    rows = select_rows("causal_lm", {"labels": torch.tensor([[7, 8]])})
    assert rows.of(positions(1, 2)).flatten().tolist() == [0.0]


def test_an_eos_label_counts_although_its_id_is_the_padding_id():
    """Text 5 6 0, then padding 0 0: the first 0 is EOS, and only -100 masks."""
    inputs = {
        "input_ids": torch.tensor([[5, 6, 0, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0, 0]]),
        "labels": torch.tensor([[5, 6, 0, X, X]]),
    }
    assert select_rows("causal_lm", inputs).labels_R.tolist() == [6, 0]


def test_the_first_token_of_a_left_padded_text_is_not_predicted_from_padding():
    labels, mask = torch.tensor([[X, X, 5, 6, 0]]), torch.tensor([[0, 0, 1, 1, 1]])
    rows = select_rows("causal_lm", {"labels": labels, "attention_mask": mask})
    assert rows.labels_R.tolist() == [6, 0]
    assert rows.of(positions(1, 5)).flatten().tolist() == [2.0, 3.0]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(text=st.lists(st.integers(0, 30), min_size=1, max_size=8), padding=st.integers(0, 5), labelled=st.booleans())
def test_both_sides_of_padding_count_the_same_tokens(text, padding, labelled):
    sides = []
    for left in (True, False):
        pads = [0] * padding
        ids, mask = (pads + text, pads + [1] * len(text)) if left else (text + pads, [1] * len(text) + pads)
        batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.tensor([mask])}
        if labelled:
            batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, X)
        counted = counted_positions("causal_lm", batch)
        sides.append(batch["input_ids"][:, 1:][counted].tolist())
    assert sides[0] == sides[1] == text[1:]


def test_a_position_without_attention_counts_for_a_masked_model():
    """Some masked-LM set-ups hide what is to be predicted from attention; the labels decide."""
    inputs = {"labels": torch.tensor([[X, 4]]), "attention_mask": torch.tensor([[1, 0]])}
    assert select_rows("masked_lm", inputs).labels_R.tolist() == [4]


def test_a_masked_example_of_a_classifier_does_not_count():
    rows = select_rows("classification", {"labels": torch.tensor([2, X, 0])})
    assert rows.labels_R.tolist() == [2, 0]
    assert rows.of(positions(3)).flatten().tolist() == [0.0, 2.0]


def test_a_regression_target_of_minus_100_is_a_number_and_not_a_mask():
    rows = select_rows("regression", {"labels": torch.tensor([-100.0, 1.0])})
    assert rows.mask is None
    assert rows.labels_R.tolist() == [-100.0, 1.0]


@pytest.mark.parametrize(("head", "rows"), [("classification", 2), ("regression", 2)])
def test_every_example_counts_where_there_are_no_labels(head, rows):
    selected = select_rows(head, {"input_ids": torch.ones(2, 3)})
    assert selected.labels_R is None
    assert len(selected.of(positions(2))) == rows


@pytest.mark.parametrize(("head", "expected"), [("masked_lm", [0.0, 1.0, 3.0]), ("causal_lm", [0.0])])
def test_every_attended_position_counts_where_there_are_no_labels(head, expected):
    rows = select_rows(head, {"attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])})
    assert rows.labels_R is None
    assert rows.of(positions(2, 3)).flatten().tolist() == expected


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
def test_a_batch_that_does_not_say_what_counts_is_refused(head):
    with pytest.raises(ValueError, match=rf"a {head} batch needs `labels` or an `attention_mask`.*\['input_ids'\]"):
        select_rows(head, {"input_ids": torch.ones(2, 3)})


def test_several_labels_an_example_are_not_flattened_into_nonsense():
    with pytest.raises(ValueError, match=r"one class an example, but its labels have shape \(2, 3\)"):
        select_rows("classification", {"labels": torch.ones(2, 3)})


def test_a_fully_masked_batch_has_no_rows():
    rows = select_rows("masked_lm", {"labels": torch.full((2, 3), X)})
    assert rows.of(positions(2, 3)).shape == (0, 1)
    assert rows.labels_R.shape == (0,)


# ---- tokens, answers, decoders ----


def test_the_tags_of_tokens_are_not_shifted_and_words_after_their_first_piece_do_not_count():
    rows = select_rows("token_classification", {"labels": torch.tensor([[X, 2, X, 0], [X, 1, X, X]])})
    assert rows.labels_R.tolist() == [2, 0, 1]
    assert rows.of(positions(2, 4)).flatten().tolist() == [1.0, 3.0, 5.0]


def test_a_decoders_labels_are_shifted_twice():
    inputs = {"labels": torch.tensor([[7, 8, 1, X]]), "attention_mask": torch.tensor([[1, 1]])}
    rows = select_rows("seq2seq_lm", inputs)
    assert rows.labels_R.tolist() == [7, 8, 1]
    assert rows.of(positions(1, 4)).flatten().tolist() == [0.0, 1.0, 2.0]


def test_a_decoder_without_labels_counts_the_positions_of_the_encoder():
    mask = torch.tensor([[1, 1, 0]])
    rows = select_rows("seq2seq_lm", {"attention_mask": torch.ones(1, 5), "decoder_attention_mask": mask})
    assert rows.of(positions(1, 3)).flatten().tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="a seq2seq_lm batch needs `labels` or a `decoder_attention_mask`"):
        select_rows("seq2seq_lm", {"attention_mask": torch.ones(1, 5)})


def answer_batch(starts: list[int], ends: list[int], mask: list[list[int]] | None = None) -> dict[str, torch.Tensor]:
    batch = {"input_ids": torch.ones(len(starts), 4, dtype=torch.long)}
    batch |= {"start_positions": torch.tensor(starts), "end_positions": torch.tensor(ends)}
    return batch if mask is None else {**batch, "attention_mask": torch.tensor(mask)}


def test_start_and_end_of_an_answer_are_rows_of_one_example():
    rows = select_rows("question_answering", answer_batch([1, 0], [3, 2]))
    assert rows.labels_R.tolist() == [1, 3, 0, 2]
    assert rows.of(positions(2, 2)).flatten().tolist() == [0.0, 1.0, 2.0, 3.0]


def test_an_answer_that_is_not_in_the_text_counts():
    """Cut off behind the text, at -100, or on padding, which another batch would not have had."""
    rows = select_rows("question_answering", answer_batch([1, X, 1], [4, 2, 3], [[1] * 4, [1] * 4, [1, 1, 1, 0]]))
    assert rows.labels_R.tolist() == [1, 2, 1]
    assert rows.mask.tolist() == [[True, False], [False, True], [True, False]]


def test_answers_without_labels_count_and_a_start_without_an_end_is_refused():
    batch = answer_batch([1], [2])
    assert select_rows("question_answering", {"input_ids": batch["input_ids"]}).mask.tolist() == [[True, True]]
    del batch["end_positions"]
    with pytest.raises(ValueError, match=r"both `start_positions` and `end_positions`, or neither, got the keys \['"):
        select_rows("question_answering", batch)
    with pytest.raises(ValueError, match="needs `input_ids` or an `attention_mask` to say how long its texts are"):
        select_rows("question_answering", {"start_positions": torch.ones(1), "end_positions": torch.ones(1)})


# ---- Signals ----


def test_padded_heads_are_cut_to_the_shared_ids():
    signals = Signals(torch.zeros(2, 10), teacher_logits=torch.zeros(2, 8), shared_width=6)
    student, teacher = signals.pair()
    assert student.shape == teacher.shape == (2, 6)


def test_labels_are_compared_over_the_whole_student_head():
    student, _ = Signals(torch.zeros(2, 10), labels=torch.zeros(2), shared_width=6).labelled()
    assert student.shape == (2, 10)


def test_no_gradient_reaches_the_teacher():
    teacher = torch.zeros(2, 3, requires_grad=True)
    _, compared = Signals(torch.zeros(2, 3, requires_grad=True), teacher_logits=teacher).pair()
    assert not compared.requires_grad


def test_a_missing_teacher_or_missing_labels_are_named():
    with pytest.raises(ValueError, match="the stage has no teacher"):
        Signals(torch.zeros(2, 3)).pair()
    with pytest.raises(ValueError, match="the batch has no `labels`"):
        Signals(torch.zeros(2, 3)).labelled()


# ---- position ids and precision ----


def test_positions_are_counted_over_the_text_and_not_over_padding():
    inputs = {"attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])}
    made = with_position_ids(inputs)
    assert made["position_ids"].tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]
    assert "position_ids" not in inputs


def test_given_positions_are_kept():
    inputs = {"attention_mask": torch.ones(1, 2), "position_ids": torch.tensor([[4, 5]])}
    assert with_position_ids(inputs) is inputs
    assert with_position_ids({"input_ids": torch.ones(1, 2)}).keys() == {"input_ids"}


@pytest.mark.parametrize(
    ("given_dtype", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_losses_are_not_computed_in_half_precision(given_dtype, expected):
    assert at_least_float32(torch.zeros(2, dtype=given_dtype)).dtype == expected


# ---- layers ----


def test_rows_of_layers_come_before_those_of_an_extraction():
    from hf_distill.reading.layer_states import LayerStates

    pair = LayerStates.of(torch.ones(1, 2, 3), torch.ones(1, 2, 4), torch.tensor([[1, 0]]))
    extraction = {"student_hidden": torch.zeros(5, 3), "teacher_hidden": torch.zeros(5, 4)}
    rows = Signals(layers=(pair, pair), **extraction).hidden_rows()
    assert [tuple(side.shape) for side in rows[1]] == [(1, 3), (1, 4)]
    assert len(rows) == 2
    extracted = Signals(**extraction).hidden_rows()
    assert [side.shape[0] for side in extracted[0]] == [5, 5]


def test_zero_reaches_every_logit_even_where_they_are_infinite():
    logits = torch.full((2, 3), float("inf"), requires_grad=True)
    zero = Signals(student_logits=logits).zero()
    zero.backward()
    assert zero.item() == 0.0
    assert logits.grad.tolist() == [[0.0] * 3] * 2
    with pytest.raises(ValueError, match="this stage has no logits"):
        Signals().zero()


def test_a_signal_is_where_the_student_is():
    assert Signals(student_hidden=torch.zeros(1, 2, device="meta")).device == torch.device("meta")
    assert Signals().device == torch.device("cpu")

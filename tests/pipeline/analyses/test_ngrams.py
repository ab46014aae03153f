"""Language models of a run are asked about the text itself, not about what training had masked in it."""

from __future__ import annotations

import json

import pytest
import torch
from analysed_run import parity_run, text_run

from hf_distill.pipeline.analyses.ngrams import _texts, analyze_ngrams


@pytest.mark.slow
@pytest.mark.parametrize("task", ["masked_lm", "causal_lm"])
def test_every_model_gets_a_distance_for_every_n(tmp_path, task):
    run = text_run(tmp_path / "run", task, steps=(10, 20), students=("one_shot",), seeds=(0,))
    answer = analyze_ngrams(run, positions=[7, 9], examples=20)
    assert answer.columns[:3] == ("model", "robust 2", "close 2")
    assert [row[0] for row in answer.rows] == ["checkpoint-10", "checkpoint-20", "one_shot, seed 0"]
    assert all(0 < value < 2 for row in answer.rows for value in row[1:])
    assert len({row[1:] for row in answer.rows}) == 3
    assert [file.name for file in answer.files] == ["ngrams.json", "ngrams.png"]
    (found, *_) = json.loads(answer.files[0].read_text())["models"]
    row = found["ngrams"][1]
    assert row["n"] == 3
    assert row["total_variation"]["robust"]["median"] == pytest.approx(row["robust"]["median"] / 2)


def test_text_is_restored_where_the_task_has_masked_it(tmp_path):
    run = text_run(tmp_path / "run", "masked_lm", steps=(10,), students=())
    tokenizer = run.data.processing_class
    for batch in run.batches("validation"):
        texts = _texts(batch, tokenizer)
        assert (batch["input_ids"] == tokenizer.mask_token_id).any()
        assert not (texts.ids == tokenizer.mask_token_id).any()
        hidden = batch["labels"] != -100
        assert torch.equal(texts.ids[hidden], batch["labels"][hidden])
        assert torch.equal(texts.ids[~hidden], batch["input_ids"][~hidden])
        assert not texts.ordinary[:, 0].any(), "[CLS] is no token of the text"
        assert texts.ordinary[hidden].all()


@pytest.mark.slow
def test_hidden_attention_changes_what_a_model_says(tmp_path):
    run = text_run(tmp_path / "run", "masked_lm", steps=(10,), students=())
    (seen,) = analyze_ngrams(run, positions=[7], examples=8).rows
    (hidden,) = analyze_ngrams(run, positions=[7], examples=8, attend_masked=False).rows
    assert seen[0] == hidden[0]
    assert seen[1:] != hidden[1:]


def test_positions_beyond_the_text_are_named_as_the_problem(tmp_path):
    run = text_run(tmp_path / "run", "masked_lm", steps=(10,), students=())
    with pytest.raises(ValueError, match="smaller `positions`"):
        analyze_ngrams(run)


def test_run_without_text_is_refused(tmp_path):
    run = parity_run(tmp_path / "run", steps=(10,), students=())
    with pytest.raises(ValueError, match="question for language models"):
        analyze_ngrams(run)

"""The probe is trained on each model's own states, on sentences of the run's grammar and with their ancestors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from analysed_run import parity_run, write_run

from hf_distill.analysis.nonterminal_probe import ProbeSettings
from hf_distill.pipeline.analyses.ngrams import analyze_ngrams
from hf_distill.pipeline.analyses.nonterminals import _batch, analyze_nonterminals
from hf_distill.tasks import Pcfg

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MODELS = {
    "pcfg": {"architecture": "bert", "config": {**SIZES, "intermediate_size": 16, "initializer_range": 0.5}},
    "pcfg_causal": {"architecture": "gpt2", "config": {**SIZES, "initializer_range": 0.5}},
}
QUICK = ProbeSettings(heads=2, position_size=16, epochs=2)


def pcfg_run(folder, name="pcfg", **settings):
    task = {"name": name, "root": 16, "train_examples": 64, "validation_examples": 40}
    return write_run(folder, task, MODELS[name], **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_gets_an_accuracy_for_every_height(tmp_path, name):
    run = pcfg_run(tmp_path / "run", name, steps=(10, 20), students=("one_shot",))
    answer = analyze_nonterminals(run, train_sentences=256, examples=64, settings=QUICK)
    assert answer.columns == ("model", "7–9", "10–12", "13–15")
    assert [row[0] for row in answer.rows] == ["checkpoint-20", "one_shot, seed 0", "one_shot, seed 1"]
    assert all(0.25 < value < 1 for row in answer.rows for value in row[1:])
    assert len({row[1:] for row in answer.rows}) == 3
    assert [file.name for file in answer.files] == ["nonterminals.json", "nonterminals.png"]
    kept = json.loads(answer.files[0].read_text())
    assert kept["models"][1]["accuracy"] == list(answer.rows[1][1:])
    assert kept["settings"]["train_sentences"] == 256
    assert (kept["settings"]["heads"], kept["settings"]["epochs"]) == (2, 2)


def test_revisions_of_the_teacher_can_be_chosen(tmp_path):
    run = pcfg_run(tmp_path / "run", steps=(10, 20), students=())
    answer = analyze_nonterminals(run, revisions=["*"], train_sentences=64, examples=32, settings=QUICK)
    assert [row[0] for row in answer.rows] == ["checkpoint-10", "checkpoint-20"]


def test_ancestors_belong_to_their_own_terminals():
    task = Pcfg(root=16)
    data = task.examples("probe", seed=0, count=20)
    symbols = {height: task.rules.symbols_at(height) for height in (1, 2, 3)}
    batch = _batch(data, range(20), symbols, torch.device("cpu"))
    ids, attended, trees = data.sentences(np.arange(20))
    assert np.array_equal(batch.ids, ids)
    assert np.array_equal(batch.attention, attended)
    assert (batch.ancestors[:, :, 0] == -100).all(), "BOS stems from nothing"
    for place, (height, found) in enumerate(symbols.items()):
        terminals = batch.ancestors[place, :, 1:]
        assert np.array_equal(terminals != -100, trees.ancestors(height) >= 0)
        named = np.array(found)[terminals[terminals != -100]]
        assert np.array_equal(named, trees.ancestors(height)[trees.ancestors(height) >= 0])


def test_the_probe_learns_neither_from_sentences_it_is_asked_about_nor_from_those_models_were_trained_on():
    task = Pcfg(root=19)
    sides = [task.examples(side, seed=0, count=200).sentences(np.arange(200)) for side in ("train", "probe")]
    rows = [{row[:100].tobytes() for row in side.ids} for side in sides]
    assert not rows[0] & rows[1]
    assert len(rows[1]) == 200


def test_run_without_a_grammar_is_refused(tmp_path):
    with pytest.raises(ValueError, match="question for the tasks pcfg and pcfg_causal; this run's is classification"):
        analyze_nonterminals(parity_run(tmp_path / "run", steps=(10,), students=()))


def test_sizes_that_leave_nothing_are_refused(tmp_path):
    run = pcfg_run(tmp_path / "run", steps=(10,), students=())
    with pytest.raises(ValueError, match="at least 1 sentence each, got 0, 32 and 64"):
        analyze_nonterminals(run, train_sentences=0, examples=32)


def test_a_root_without_a_choice_is_refused(tmp_path):
    task = {"name": "pcfg", "root": 7, "train_examples": 8, "validation_examples": 8}
    run = write_run(tmp_path / "run", task, MODELS["pcfg"], steps=(10,), students=())
    with pytest.raises(ValueError, match="root 7 have one non-terminal of each height"):
        analyze_nonterminals(run)


@pytest.mark.slow
def test_ngrams_of_a_grammar_hide_what_training_hid_and_ask_what_it_predicted(tmp_path):
    """The task's attention mask is 0 where something is to be predicted: these positions are text all the same."""
    run = pcfg_run(tmp_path / "run", steps=(10, 20), students=())
    found, hidden, seen = (
        analyze_ngrams(run, positions=[10, 20, 30], examples=40, attend_masked=choice)
        for choice in (None, False, True)
    )
    assert found.rows == hidden.rows
    assert found.rows != seen.rows
    pairs = {model["ngrams"][0]["pairs"] for model in json.loads(found.files[0].read_text())["models"]}
    # Every sentence has at least 35 terminals, so that no pair of the three positions is missing.
    assert pairs == {3 * 40}
    assert json.loads(found.files[0].read_text())["settings"]["attend_masked"] is True, "the last one written"
    assert analyze_ngrams(pcfg_run(tmp_path / "causal", "pcfg_causal", steps=(10,), students=()), positions=[20]).rows

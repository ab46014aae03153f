"""Mistakes on the command line end in one clear message and exit code 2, and leave nothing that was worked on."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import bert_config, tiny_model
from tiny_recipes import parity_recipe, untaught

LABELS, TAUGHT = "labels.yaml", "taught.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recipes and things that are none, in the working directory."""
    monkeypatch.chdir(tmp_path)
    untaught(Path("unused")).save(LABELS)
    parity_recipe(Path("unused")).save(TAUGHT)
    Path("empty.yaml").write_text("")
    Path("list.yaml").write_text("- a\n")
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    Path("file").write_text("x")
    for name in ("folder.yaml", "empty", "unfinished"):
        Path(name).mkdir()
    untaught(Path("unfinished")).save("unfinished/recipe.yaml")
    bert_config().save_pretrained("no_weights")
    tiny_model("masked_lm").save_pretrained("masked_lm")
    return tmp_path


MISTAKES = [
    ("run missing.yaml", "missing.yaml is neither a file nor the name of a recipe"),
    ("run folder.yaml", "folder.yaml is a folder"),
    ("run empty.yaml", "empty.yaml is empty"),
    ("run list.yaml", "expected a mapping of keys"),
    ("run binary.yaml", "is not UTF-8 text"),
    ("run labels.yaml --set seeds=[0,0]", "list each seed once"),
    ("run labels.yaml --set seeds=[-1]", "seeds[0]: expected an int from 0"),
    ("run labels.yaml --set training.learning_rate=.nan", "training.learning_rate: expected a finite number"),
    ("run labels.yaml --set training.max_steps=0", "training.max_steps: expected at least 1, or -1"),
    ("run labels.yaml --set training.resume_from_checkpoint=x", "goes on by itself"),
    ("run labels.yaml --set curriculum.name=lables", "Did you mean 'labels'"),
    ("run labels.yaml --set output_dir=file", "output_dir: file is a file"),
    ("run labels.yaml --set student.model.config.width=-2", "student.model: no AutoModelForSequenceClassification"),
    ("run labels.yaml --set training", "expected key=value"),
    ("run taught.yaml --set compare.cold.temperature=-1", "compare.cold.objectives[0].temperature: must stay within"),
    ("run taught.yaml --set teacher.train.training.save_strategy=no", "others learn from the checkpoints"),
    ("run taught.yaml -s teacher.train=null -s teacher.source=no_weights", "it holds no weights"),
    ("run taught.yaml -s teacher.train=null -s teacher.source=file", "file is a file; expected a folder"),
    ("plan taught.yaml --engine fsdp2", "changes nothing without --scaling"),
    ("plan taught.yaml --scaling --constant between=nan", "above 0"),
    ("cache labels.yaml", "there is no teacher to cache"),
    ("cache taught.yaml --output file", "file is a file; expected a folder for the cache"),
    ("cache taught.yaml --codec top_k --k 0", "k must be at least 1"),
    ("student make no_weights out", "it holds no weights"),
    ("student make masked_lm file --layers first:1", "file is a file"),
    ("student make masked_lm out --layers cka:1", "name a recipe with its task and data"),
    ("evaluate empty", "empty holds no run"),
    ("evaluate unfinished", "no finished student to evaluate"),
    ("report file empty --output file", "file is a file; give another place"),
    ("report empty --output out", "the page of a single run lies in the run"),
    ("analyze sensitivity unfinished", "no finished model to look at"),
    ("analyze fidelity unfinished", "its recipe names none"),
    ("teachers list empty", "holds neither checkpoint-* folders nor a whole model"),
    ("teachers list masked_lm --every 0", "every: expected a whole number from 1"),
    ("teachers score labels.yaml", "has no teacher to score"),
    ("teachers publish empty org/x", "holds no checkpoint-*"),
    ("push empty org/x", "There is no empty/run_record.json"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_ends_in_one_message_and_costs_nothing(hf_distill, folder, words, said):
    shown = hf_distill(*words.split())
    assert shown.code == 2
    assert shown.err.startswith("Error: ")
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert not list(folder.rglob("unused/**/*.safetensors"))
    assert not (folder / "out").exists()

"""The code of a card: it runs as it stands, with transformers alone, and asks the model in its task's own way."""

from __future__ import annotations

import ast

import pytest
from builders import HEADS, tiny_model, word_tokenizer
from sample_records import sample_record

from hf_distill.hub.card_use import own_architecture, reads_pairs, use_code
from hf_distill.tasks.glue import Glue


def record_of(head, **description):
    """A record of an architecture that transformers knows."""
    record = sample_record()
    record.task["head"] = head
    record.task["description"] |= description
    record.student["origin"] = {"architecture": "bert", "config": {}}
    return record


@pytest.mark.parametrize("repo_id", [None, "acme/student"])
@pytest.mark.parametrize("head", HEADS)
def test_example_code_imports_what_it_uses(head, repo_id):
    code = use_code(record_of(head, tokenizer="t"), repo_id)
    tree = ast.parse(code)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id.startswith("Auto")}
    assert imported == used
    assert len(used) == 2
    assert (repr(repo_id) in code) if repo_id else ('"."' in code)


@pytest.mark.parametrize("head", HEADS)
def test_example_code_runs_beside_the_model_it_is_for(head, tmp_path, monkeypatch, capsys):
    model = tiny_model(head)
    if model.can_generate():
        model.generation_config.max_new_tokens = 3
    model.save_pretrained(tmp_path)
    tokenizer = word_tokenizer(*(f"w{number}" for number in range(38)))
    tokenizer.mask_token = "w1"
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(use_code(record_of(head, tokenizer="t", preprocessing="a and b as a pair"), None), {})
    printed = capsys.readouterr().out.strip()
    if head == "classification":
        assert printed in model.config.id2label.values()
    elif head == "regression":
        assert isinstance(float(printed), float)
    elif head == "token_classification":
        pairs = ast.literal_eval(printed)
        assert pairs and {tag for _, tag in pairs} <= set(model.config.id2label.values())
    else:
        assert set(printed.split()) <= set(tokenizer.get_vocab())


def test_pairs_are_asked_as_pairs():
    pair, single = Glue(subset="mrpc").preprocessing(), Glue(subset="cola").preprocessing()
    assert reads_pairs({"preprocessing": pair})
    assert not reads_pairs({"preprocessing": single})
    assert '"A sentence.", "' in use_code(record_of("classification", tokenizer="t", preprocessing=pair), None)
    assert '"A sentence.", r' in use_code(record_of("classification", tokenizer="t", preprocessing=single), None)


def test_a_model_without_a_tokenizer_is_only_loaded():
    code = use_code(record_of("classification"), None)
    assert code.splitlines()[-1] == "model = AutoModelForSequenceClassification.from_pretrained(source)"


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (None, "RGB")])
def test_example_code_for_images_reads_images_and_not_text(channels, mode):
    record = record_of("classification", inputs="pixel_values", image_processor="p", channels=channels)
    code = use_code(record, None)
    ast.parse(code)
    assert "from transformers import AutoImageProcessor, AutoModelForImageClassification\n" in code
    assert f'convert("{mode}")' in code
    record.task["description"]["image_processor"] = None
    code = use_code(record, None)
    assert "AutoModelForImageClassification.from_pretrained" in code
    assert "Processor" not in code and "PIL" not in code


def test_only_architectures_of_ours_need_this_package():
    record = sample_record()
    assert own_architecture(record) == "parity_mlp"
    assert "import hf_distill.tasks" in use_code(record, None)
    for origin in ({"architecture": "bert", "config": {}}, {"pretrained": "acme/small"}):
        record.student["origin"] = origin
        assert own_architecture(record) is None
        assert "hf_distill" not in use_code(record, None)

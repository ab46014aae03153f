"""Tables of any two configurations, and the page."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from launching import ROOT
from transformers import BertConfig


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaling_table", ROOT / "scripts" / "scaling_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_any_two_configurations_have_a_table(script, tmp_path, monkeypatch, capsys):
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 100}
    for name, layers in (("small", 2), ("large", 4)):
        BertConfig(num_hidden_layers=layers, **sizes).save_pretrained(tmp_path / name)
    words = ["--student", str(tmp_path / "small"), "--teacher", str(tmp_path / "large"), "--head", "masked_lm"]
    words += ["--tokens", "64", "--examples", "16", "--engine", "fsdp2", "--placement", "sharded"]
    monkeypatch.setattr(sys, "argv", ["scaling_table.py", *words])
    script.main()
    shown = capsys.readouterr().out
    assert f"{tmp_path / 'small'} ← {tmp_path / 'large'}, masked_lm, 64 tokens" in shown
    assert [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("|")][2:] == [
        "1", "2", "4", "8", "16",
    ]  # fmt: skip


def test_a_student_without_a_teacher_is_refused(script):
    with pytest.raises(ValueError, match="both --student and --teacher"):
        script.pairs_of(script.parser().parse_args(["--student", "x"]))


def test_a_page_is_written_and_nothing_printed(script, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- scaling: constants -->\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["scaling_table.py", "--page", str(page)])
    script.main()
    assert "NVLink" in page.read_text(encoding="utf-8")
    assert capsys.readouterr().out == ""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import TOKENIZER, sentence_rows, write_sentences, write_split

from hf_distill.tasks import TASKS
from hf_distill.tasks.sentence_task import check_texts
from hf_distill.tasks.table_sources import Table


def test_a_text_that_is_none_is_refused() -> None:
    table = Table({"a": ["x", None]}, "train", {})
    with pytest.raises(ValueError, match="row 1 of train has no text under 'a' but None"):
        check_texts(table, "a")
    assert check_texts(table.take([0]), "a") is None


def test_long_texts_are_not_cut_in_silence(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path, ["sentence"], [0, 1, 1, 0], splits=("validation",))
    write_split(folder, "train", [{"sentence": "value " * 80, "label": 1}, *sentence_rows(["sentence"], [0, 1])])
    fields = {"name": "glue", "subset": "cola", "data": {"path": str(folder)}, "tokenizer": TOKENIZER}
    task = TASKS.build({**fields, "max_length": 40}, path="task")
    description = task.prepare(seed=0, cache_dir=folder / "cache").description
    assert description["counted"] == {"train": {"cut": 1}, "validation": {"cut": 0}}
    assert "at most 40 tokens (1 cut in train)" in description["preprocessing"]

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_distill.tasks.hub_data import HubData, check_column

INSTEAD = "read local files"


def test_a_folder_is_read_with_its_split_and_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("validation", 2)):
        lines = [json.dumps({"text": f"{split} {row}"}) for row in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = HubData(str(tmp_path), name=None, revision=None, instead=INSTEAD)
    assert (data.commit, data.source) == (None, str(tmp_path))
    assert data.rows("train[1:]")["text"][:] == ["train 1", "train 2"]
    assert len(data.rows("validation")) == 2
    with pytest.raises(ValueError, match=r'(?s)data\.hub: cannot read .*Unknown split "test".*or read local files\.'):
        data.rows("test")


def test_a_data_set_out_of_reach_is_named_with_a_way_out() -> None:
    message = (
        r"(?s)'org/none', configuration 'small' at revision 'v1'.*hf download --repo-type dataset org/none.*local"
    )
    with pytest.raises(ValueError, match=message):
        HubData("org/none", name="small", revision="v1", instead=INSTEAD)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"image": "x", "fine_label": 1}\n', encoding="utf-8")
    rows = HubData(str(tmp_path), name=None, revision=None, instead=INSTEAD).rows("train")
    check_column(rows, "image", key="data.image_column", source="x")
    message = (
        r"data\.label_column: 'x' has no column 'fine_lable'\. Did you mean `fine_label`\? Its columns: image, fin"
    )
    with pytest.raises(ValueError, match=message):
        check_column(rows, "fine_lable", key="data.label_column", source="x")

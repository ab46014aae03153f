"""A file of a run that cannot be read is named."""

from __future__ import annotations

import pytest

from hf_distill.pipeline.kept_files import read_kept


@pytest.mark.parametrize("content", [b"{broken", b"", b"\xff\xfe", b"[]", b"3"])
def test_an_unreadable_file_is_named_with_what_to_do(tmp_path, content):
    (tmp_path / "kept.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"kept\.json .*restore it, or remove it and run the recipe again"):
        read_kept(tmp_path / "kept.json", dict)


def test_what_was_kept_comes_back(tmp_path):
    (tmp_path / "kept.json").write_text('{"a": [1]}')
    assert read_kept(tmp_path / "kept.json", dict) == {"a": [1]}
    (tmp_path / "kept.json").write_text('[{"a": 1}]')
    assert read_kept(tmp_path / "kept.json", list) == [{"a": 1}]

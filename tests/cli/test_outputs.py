from __future__ import annotations

import pytest

from hf_distill.cli.outputs import check_output


def test_a_place_that_is_taken_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for place, folder, said in (
        (tmp_path / "file", True, "file is a file; give another place"),
        (tmp_path / "file" / "below", True, "file is a file; give another place"),
        (tmp_path / "file" / "below.json", False, "file is a file; give another place"),
        (tmp_path, False, "is a folder; give a file in it"),
    ):
        with pytest.raises(ValueError, match=rf"^--output .*{said}"):
            check_output(place, folder=folder)


def test_a_free_place_is_taken(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "new" / "newer"):
        assert check_output(folder, folder=True) is None
    for file in (tmp_path / "file", tmp_path / "new" / "file.json"):
        assert check_output(file, folder=False) is None

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
    check_output(tmp_path, folder=True)
    check_output(tmp_path / "new" / "newer", folder=True)
    check_output(tmp_path / "file", folder=False)
    check_output(tmp_path / "new" / "file.json", folder=False)

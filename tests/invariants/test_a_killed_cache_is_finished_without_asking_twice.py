"""What a killed writer left whole is kept, only what is missing goes through the teacher: the cache is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import save_teacher_run
from cache_cases import FLOAT_HIDDEN, LOGITS
from killed_cache import Killed, write, write_until_killed
from launching import run_until_killed

from hf_distill.cache.format import MANIFEST
from hf_distill.teachers.cached import CachedTeacher

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("head", "codec"), [("classification", LOGITS), ("masked_lm", FLOAT_HIDDEN)], ids=["logits", "hidden"]
)
def test_a_killed_writer_goes_on_where_it_was(tmp_path: Path, head: str, codec: dict[str, Any]) -> None:
    teacher = save_teacher_run(tmp_path / "teacher", head)
    whole = write(tmp_path / "whole", Killed(teacher, None), codec, head)
    assert whole.forwarded == 40
    for last in (4, 3):
        run_until_killed(write_until_killed, tmp_path / "cut", teacher, codec, head, last)
        with pytest.raises(ValueError, match="unfinished"):
            CachedTeacher(tmp_path / "cut")
    resumed = Killed(teacher, None)
    caching = write(tmp_path / "cut", resumed, codec, head)
    # Seven steps of four examples were written by the two that were killed.
    assert caching.forwarded == sum(resumed.seen.values()) == 40 - 4 * (4 + 3)
    assert resumed.seen == {"checkpoint-30": 12}
    ours, theirs = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders(tmp_path))
    ours.pop(Path(MANIFEST))
    theirs.pop(Path(MANIFEST))
    assert ours == theirs


def folders(folder: Path) -> tuple[Path, Path]:
    return folder / "cut", folder / "whole"

"""What the pushing commands share: the bar moves, and an unreachable Hub is one sentence with what to do."""

from __future__ import annotations

import pytest

from hf_distill.cli.pushing import revision_bar, said_plainly
from hf_distill.teachers.retry import HubUnavailable


def test_an_unreachable_hub_says_that_the_same_command_goes_on() -> None:
    match = r"the Hub answered 503\. What is pushed is kept: run the same command again"
    with pytest.raises(ValueError, match=match), said_plainly():
        raise HubUnavailable("org/name: the Hub answered 503")


def test_the_bar_names_what_is_done(capsys) -> None:
    with revision_bar("Publishing") as advance:
        advance("step-2", 1, 2)
        advance("main", 2, 2)
    assert "Publishing main" in capsys.readouterr().out

from __future__ import annotations

import io
import logging

import pytest
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from hf_distill.cli.quiet import close_bars, quieten

# conftest.py forbids the Hub client's bars by the environment.
pytestmark = pytest.mark.filterwarnings("ignore:Cannot enable progress bars")


@pytest.fixture(autouse=True)
def restored():
    """Put back what the process had."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)
    transformers_logging.set_verbosity(verbosity)
    if bars:
        transformers_logging.enable_progress_bar()


@pytest.mark.parametrize(
    ("level", "quiet"), [(logging.WARNING, True), (logging.INFO, False)], ids=["usual", "verbose"]
)
def test_normal_steps_are_told_to_those_who_ask_only(level, quiet):
    transformers_logging.enable_progress_bar()
    transformers_logging.set_verbosity_warning()
    logging.getLogger().setLevel(level)
    quieten()
    assert not transformers_logging.is_progress_bar_enabled()
    expected = logging.ERROR if quiet else logging.WARNING
    assert transformers_logging.get_verbosity() == expected


def test_an_error_does_not_stand_behind_a_bar():
    shown = io.StringIO()
    bar = tqdm(total=3, file=shown)
    bar.update(1)
    assert not shown.getvalue().endswith("\n")
    close_bars()
    assert shown.getvalue().endswith("\n")
    assert not tqdm._instances

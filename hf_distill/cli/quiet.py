"""One progress bar at a time: transformers' bars for loading and saving weights are left out."""

from __future__ import annotations

import logging
import sys


def quieten() -> None:
    """Leave out transformers' own progress bars and its information about normal steps."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if logging.getLogger().level > logging.INFO:
        transformers_logging.set_verbosity_error()


def close_bars() -> None:
    """End the progress bars that an error has interrupted, so that what is said of it begins a line of its own."""
    if "tqdm" not in sys.modules:
        return
    from tqdm import tqdm

    for bar in list(tqdm._instances):
        bar.close()

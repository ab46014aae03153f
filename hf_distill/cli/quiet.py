"""One progress bar at a time: transformers' bars for loading and saving weights are left out."""

from __future__ import annotations

import logging


def quieten() -> None:
    """Leave out transformers' own progress bars and its information about normal steps."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if logging.getLogger().level > logging.INFO:
        transformers_logging.set_verbosity_error()

"""Run by torchrun on two ranks: as `head_two_ranks`, and with the model split by DeepSpeed's ZeRO-3 too."""

from __future__ import annotations

import sys
from pathlib import Path

from head_two_ranks import main

if __name__ == "__main__":
    main(Path(sys.argv[1]), zero3=True)

"""Started by torchrun: see `engines_two_ranks`, with DeepSpeed's ZeRO-3."""

from __future__ import annotations

from engines_two_ranks import main

if __name__ == "__main__":
    main("zero3")

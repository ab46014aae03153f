"""Started by torchrun: see `engines_two_ranks`, with PyTorch's FSDP2."""

from __future__ import annotations

from engines_two_ranks import main

if __name__ == "__main__":
    main("fsdp2")

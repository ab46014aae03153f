"""`python -m hf_distill`, so that `accelerate launch -m hf_distill run RECIPE` works."""

from __future__ import annotations

from hf_distill.cli.main import main

if __name__ == "__main__":
    main()

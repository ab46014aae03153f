"""The `hf-distill` command line; it starts without importing torch."""

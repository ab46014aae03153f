"""The folder that `evaluate.load` reads."""

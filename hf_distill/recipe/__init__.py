"""A recipe: YAML, its blocks, what may stand together, and who teaches whom in words."""

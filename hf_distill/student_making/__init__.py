"""A student made of its teacher's own weights: some of its layers, some of its width, saved as any model is."""

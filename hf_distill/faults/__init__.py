"""What goes wrong in a training on many machines, and what is done about it."""

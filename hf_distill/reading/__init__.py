"""What models say: heads and rows, logits, hidden layers, read in one forward."""

"""From rows to one number: objectives weighted, over one denominator, in tiles or whole."""

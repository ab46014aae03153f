"""What a run's models are worth: quality, fidelity to the teacher and cost of each, in one record."""

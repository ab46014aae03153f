"""What a model must be, take and give; what engines and torch.compile need of it."""

"""What ProgressiveDistillTrainer adds to Trainer, one concern a file."""

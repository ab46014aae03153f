"""`hf-distill analyze`: one file a question, asked of a run's models; answers lie in `output_dir/analysis`."""

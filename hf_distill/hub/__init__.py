"""The Hugging Face Hub: what a student's repository says about itself, and what it must never say."""

"""Convert official and Hugging Face checkpoints to keras-hub preset directories."""

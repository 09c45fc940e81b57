"""Turn official and Hugging Face checkpoints into keras-hub preset directories."""

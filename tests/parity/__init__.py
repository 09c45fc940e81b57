"""Parity of keras_dpt with DPT implementations that share no code with it."""

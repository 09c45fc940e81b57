"""The networks: backbone (encoder and decoder) and the tasks that put a head on it."""

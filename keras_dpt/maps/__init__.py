"""What users get back: depth maps, label maps and points. NumPy only."""

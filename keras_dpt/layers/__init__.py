"""The boxes of the paper's Figure 1, each usable alone. Maps are `(B, H, W, C)` throughout."""

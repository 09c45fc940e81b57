"""Images as arrays: read, found, written and resized, without Keras."""

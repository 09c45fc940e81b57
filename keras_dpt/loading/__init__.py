"""Turn whatever `from_preset` takes into a local preset directory."""

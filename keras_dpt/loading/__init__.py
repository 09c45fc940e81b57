"""From whatever `from_preset` takes to a local preset directory."""

"""Programs on top of the models: depth of videos, and the demo page."""

"""Pure functions over Keras tensors. They own no weights and know no model."""

"""Step time and memory of a network on a device: measured, predicted, or from elsewhere."""

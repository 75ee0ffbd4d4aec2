"""Training a network to the end, on one device or on several."""

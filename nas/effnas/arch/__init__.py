"""A network as a value: block text, counts, layers, its timm module, and weight files."""

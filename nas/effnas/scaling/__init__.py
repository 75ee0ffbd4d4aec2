"""From one network to a family, and what its members cost."""

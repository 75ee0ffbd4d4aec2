"""Sets of architectures: the search-space language, sampling, mutation, and constraints."""

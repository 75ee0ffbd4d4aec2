"""A trial, what it is worth, where it is stored, and a run read back."""

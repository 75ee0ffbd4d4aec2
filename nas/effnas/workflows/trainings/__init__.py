"""Long trainings of candidates stored and compared."""

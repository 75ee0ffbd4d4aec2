"""How a base is best scaled, found by short trainings."""

"""Finals: the best networks of a search are trained longer, and one is picked."""

"""One folder for each long command that is not a search."""

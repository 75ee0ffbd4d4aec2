"""Does a short training rank networks as a longer one does? Checks of a proxy, and the search."""

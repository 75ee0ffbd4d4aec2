"""Reports: what a search has found, how sure that is and what to do next, on one offline page."""

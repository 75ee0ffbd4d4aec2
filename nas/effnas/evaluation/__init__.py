"""Running a candidate somewhere: evaluators, back ends, and workers."""

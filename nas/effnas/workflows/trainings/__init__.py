"""Long trainings of candidates under Ray Tune, stored and compared."""

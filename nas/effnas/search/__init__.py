"""The search: its loop, its rungs, its cost estimate, and launching it."""

"""The trainer: a step, augmentation, stages, schedules, checkpoints, and the loop."""

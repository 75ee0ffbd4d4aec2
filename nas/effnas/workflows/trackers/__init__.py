"""Figures of trainings for TensorBoard, MLflow and W&B."""

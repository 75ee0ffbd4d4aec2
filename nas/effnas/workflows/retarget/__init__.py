"""Retargeting: what is best on another device, with the accuracies of a finished search."""

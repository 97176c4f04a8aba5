"""Gradient descent for any network: optimizers, schedules, fit, checkpoints."""

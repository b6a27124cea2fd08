"""Runs many trainings for one question: an ablation, a cure or a learning curve."""

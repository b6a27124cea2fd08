"""The artefact that people use: what a prediction needs, in one folder without code, and the class that reads it back."""

from pipeline.delivery.classifier import Classifier

__all__ = ["Classifier"]

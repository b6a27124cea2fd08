"""Fitting a network: what Lightning is given, and what makes a killed run go on where it was."""

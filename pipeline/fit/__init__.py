"""Pure functions over numbers: histories, intervals and scores. Imports neither torch nor mlflow."""

"""Runs in MLflow. The only room that imports mlflow, and only when it has something to send.

The folder that a training leaves (`history.csv`, `run.json`, `model.ckpt`, …) is the truth; a run in MLflow is a copy of
it. So nothing is lost when the store cannot be reached: what is missing there is sent later from the folder.
"""

"""Runs in MLflow. The only room that imports mlflow, and only when there is something to send.

The folder of a training (`history.csv`, `run.json`, `model.ckpt`, …) is the source; a run in MLflow is a copy of it. Whatever
could not be sent while the store was away waits in the spool.
"""

"""Begins a program in which nothing that only a training needs can be imported."""

WITHOUT_TRAINING = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "lightning", "pytorch_lightning", "mlflow", "albumentations", "onnx"}:
            raise ModuleNotFoundError(f"{name} is hidden")
sys.meta_path.insert(0, Refuse())
"""

"""Diagnoses whether a training fits, names causes, and prescribes changes; imports neither torch nor mlflow."""

from pipeline.diagnosis.course import Course, CourseError, from_rows
from pipeline.diagnosis.prescriptions import prescribe
from pipeline.diagnosis.remedies import Prescription
from pipeline.diagnosis.rules import GOOD_FIT, INCONCLUSIVE, OVERFITTING, STILL_LEARNING
from pipeline.diagnosis.thresholds import Thresholds
from pipeline.diagnosis.verdict import DATA_VERDICTS, VERDICTS, Diagnosis, diagnose

__all__ = [
    "DATA_VERDICTS", "GOOD_FIT", "INCONCLUSIVE", "OVERFITTING", "STILL_LEARNING", "VERDICTS", "Course", "CourseError",
    "Diagnosis", "Prescription", "Thresholds", "diagnose", "from_rows", "prescribe",
]  # fmt: skip

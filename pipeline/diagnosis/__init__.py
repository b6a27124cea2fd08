"""Sees whether a training fits, says why not, and what to change; knows neither torch nor mlflow."""

from pipeline.diagnosis.course import Course, CourseError, from_rows
from pipeline.diagnosis.prescriptions import Prescription, prescribe
from pipeline.diagnosis.thresholds import Thresholds
from pipeline.diagnosis.verdict import VERDICTS, Diagnosis, diagnose

__all__ = [
    "VERDICTS",
    "Course",
    "CourseError",
    "Diagnosis",
    "Prescription",
    "Thresholds",
    "diagnose",
    "from_rows",
    "prescribe",
]

"""Errors that a user can cause. Each is shown as its message alone and ends the process with exit code 1."""


class UserError(ValueError):
    """Base of the others. Its message says what was expected, what was found, and what to do."""


class ConfigError(UserError):
    """Raised for a configuration key that does not exist, or a value that it does not take."""


class DataError(UserError):
    """Raised for files, images or labels that are missing, damaged or not what they should be."""


class DamagedError(DataError):
    """Raised for a file of our own that is not as it was written."""


class ShapeError(UserError):
    """Raised for a network whose layers do not fit the size of its images."""


class BusyError(UserError):
    """Raised while another process works on the same output."""


class TrainingError(UserError):
    """Raised for a training that cannot go on, such as one whose loss is not finite."""


class StoreError(UserError):
    """Raised for a tracking store that no waiting mends, such as a file that is no database, or a deleted experiment."""

"""The errors a user can cause. Each is shown as its message alone, without a traceback, and ends with exit code 1."""


class UserError(ValueError):
    """What was expected, what was found, and what to do; written to be read on a terminal."""


class ConfigError(UserError):
    """A configuration key that does not exist, or a value that it does not take."""


class DataError(UserError):
    """Images or labels that cannot be had, or are not what they should be."""


class ShapeError(UserError):
    """A network whose layers do not fit the size of its images."""


class BusyError(UserError):
    """Another process is at work on the same output."""


class TrainingError(UserError):
    """A training that cannot go on, such as one whose loss is not finite."""

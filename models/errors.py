"""What can go wrong with a classifier: its package, its input, the data it is trained on."""


class ModelError(Exception):
    """Whatever the classifiers raise on purpose; the message says what was wrong, where, and what to do."""


class PackageError(ModelError):
    """A model package is missing, damaged or not what its card says."""


class NotInstalledError(PackageError):
    """No model package of that name and version is installed."""


class ImageError(ModelError):
    """An image cannot be read or is not what a preprocessing recipe takes."""


class DataError(ModelError):
    """A training or test set cannot be used as it stands."""


class RecipeError(ModelError):
    """A recipe or an architecture of that name is not there, or its weights do not fit."""

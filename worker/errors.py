"""The error catalogue: two families, retry later or never.

Every failure in firstread is one of these. A `RetryLater` may heal by itself (a peer that cannot be reached, a broker
that restarts); a `Never` will be the same next time (a truncated object, an unknown transfer syntax) and becomes a
visible failed state with its message as the reason. Messages are written for the person who reads them at 3 a.m.: what
was wrong, where, what to do; they carry UIDs and never names.
"""


class FirstreadError(Exception):
    """Whatever firstread raises on purpose."""


class RetryLater(FirstreadError):
    """It may work the next time without anybody's help."""


class PeerUnreachable(RetryLater):
    """A PACS or RIS did not answer, refused the association or is out of resources; costs no attempt."""


class LeaseLost(RetryLater):
    """The work was claimed by someone else meanwhile; our result is dropped, theirs counts."""


class ChildLost(RetryLater):
    """A guarded child could not be started (not the fault of the object it was to read)."""


class Never(FirstreadError):
    """It will be the same next time; a person has to look."""


class SettingsError(Never):
    """A setting is wrong: its name, its value and what is allowed."""


class StartError(Never):
    """Services cannot be started here: others run already, a port is taken, a program is missing, one keeps dying."""


class ProtocolError(Never):
    """A peer broke the DICOM upper layer or message exchange protocol; its association is aborted."""


class UnreadableObject(Never):
    """The stored bytes are no DICOM object that can be read."""


class PixelError(Never):
    """The pixels of an object cannot be decoded."""


class PackageError(Never):
    """A model package is missing, damaged or not what its card says."""


class ReportError(Never):
    """No valid report can be made of a study."""


class ReportRefused(Never):
    """A peer answered a report with a failure status."""


class SchemaOwed(Never):
    """The database schema is older than this release."""


class NotFound(Never):
    """What was asked for does not exist."""

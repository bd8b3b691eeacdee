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


class HandshakeFailed(Never):
    """No TLS with a peer came about: in words why, what to do, and of which kind (a label of the metric)."""

    def __init__(self, why: str, *, fix: str, kind: str) -> None:
        super().__init__(why)
        self.fix, self.kind = fix, kind


class UnreadableMessage(Never):
    """A message of storage commitment is none, or beyond its bounds; it is answered with a failure."""


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


class CommitmentRefused(Never):
    """A peer answered a message of storage commitment with a failure status."""


class SchemaOwed(Never):
    """The database schema is not the one of this release."""


class SchemaTooNew(SchemaOwed):
    """The database was written by a newer release, whose schema this one does not know."""


class BackupError(Never):
    """A backup cannot be made, is damaged, or cannot be restored here; nothing that was there has been changed."""


class UnreadableSource(BackupError):
    """A file that is to be copied cannot be read; the others can."""


class BytesRemoved(Never):
    """The stored bytes that would be needed were removed by retention."""


class NotFound(Never):
    """What was asked for does not exist."""


class AuditBroken(Never):
    """The audit chain cannot be continued, or what stands beside it cannot be read."""


class AccountError(Never):
    """An account or token cannot be made or changed as asked: what it lacks, or what is in the way."""


class LoginRefused(Never):
    """Nobody is let in with this: one message for every reason, so that it tells nobody which."""


class TooManyLogins(RetryLater):
    """Too many logins failed of late, with this account or from this address; it passes."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many logins failed. Try again in {_in_words(seconds)}.")
        self.seconds = seconds


def _in_words(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} {'second' if seconds == 1 else 'seconds'}"
    return f"{-(-seconds // 60)} minutes"


class ProviderUnreachable(RetryLater):
    """The OpenID Connect provider does not answer, or is not the one that was set."""

"""An object of the spool as registration sees it: who it says it is, with a stand-in for each UID that is none."""

from dataclasses import dataclass
from datetime import datetime

from worker.intake.header_text import text
from worker.intake.headers import StoredObject
from worker.intake.spool import received_at
from worker.uids import derived_uid, is_uid


@dataclass(frozen=True)
class Described:
    """An object, and where it belongs.

    Attributes
    ----------
    name
        Its spool name.
    study_remark
        Why its study has a stand-in for a UID; empty where it has its own.
    """

    name: str
    stored: StoredObject
    received_at: datetime
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    study_remark: str

    def text(self, keyword: str, length: int | None = None) -> str:
        """Return an attribute of its header, as text."""
        return text(self.stored.header, keyword) if length is None else text(self.stored.header, keyword, length)

    @property
    def content(self) -> tuple[str, str]:
        """What makes it the same object when it comes again."""
        return self.sop_instance_uid, self.stored.dataset_sha256


def described(name: str, stored: StoredObject) -> Described:
    """Describe an object by its header."""
    digest, remark = stored.dataset_sha256, ""
    instance, study = stored.sop_instance_uid, text(stored.header, "StudyInstanceUID")
    series = text(stored.header, "SeriesInstanceUID")
    if not is_uid(instance):
        instance = derived_uid("stand-in", "instance", digest)
    if not is_uid(study):
        said = f"{quotable_uid(study)} is no UID" if study else "absent"
        remark = f"StudyInstanceUID {said}: a stand-in was made from the digest of the data set"
        study = derived_uid("stand-in", "study", digest)
    if not is_uid(series):
        series = derived_uid("stand-in", "series", study, digest)
    return Described(name, stored, received_at(name), instance, study, series, remark)


def quotable_uid(said: str) -> str:
    """Return what stands for a UID as a message may quote it; of what has other characters nobody knows what it is."""
    return repr(said[:64]) if set(said) <= set("0123456789.") else "its value"

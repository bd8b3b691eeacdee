"""A sender that does everything right, timed: whatever others do meanwhile, it is to be served."""

import os
import time
from dataclasses import dataclass, field
from hashlib import sha256

from tests.support.listener_process import ListenerProcess
from tests.support.raw_store import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN, RawAssociation
from tests.support.spooled import spooled, text

CONTEXTS = [(CT_IMAGE_STORAGE, [EXPLICIT_VR_LITTLE_ENDIAN])]
SERVED_WITHIN = 2.0
GOOD = "1.2.826.0.77."
"""Its SOP Instance UIDs begin with this."""


@dataclass
class GoodSender:
    """Sends objects, each on an association of its own.

    Attributes
    ----------
    seconds
        How long each took, from the connection to the end of the association.
    sent
        SHA-256 of each data set that was answered with success, by SOP Instance UID.
    """

    listener: ListenerProcess
    seconds: list[float] = field(default_factory=list)
    sent: dict[str, str] = field(default_factory=dict)

    def send(self, size: int = 5000) -> float:
        """Send one object, which has to be accepted; return how long it took."""
        data, instance = os.urandom(size), f"{GOOD}{len(self.sent) + 1}"
        began = time.monotonic()
        with RawAssociation(self.listener.host, self.listener.port, CONTEXTS, calling="GOOD") as association:
            status = association.store(CT_IMAGE_STORAGE, instance, data)
        self.seconds.append(time.monotonic() - began)
        assert status == 0x0000, f"{status:04X}"
        self.sent[instance] = sha256(data).hexdigest()
        return self.seconds[-1]

    @property
    def patience(self) -> float:
        """How long an object may take, seconds: 2; on a busy machine ten times what the first, undisturbed, took."""
        return max(SERVED_WITHIN, 10 * self.seconds[0])

    def assert_kept(self) -> None:
        """Assert that all it was told success for lies in the spool, byte for byte."""
        kept = {}
        for path in self.listener.arrivals():
            meta, data = spooled(path)
            instance = text(meta[0x0003])
            if instance.startswith(GOOD):
                assert instance not in kept
                kept[instance] = sha256(data).hexdigest()
        assert kept == self.sent

"""How many images are taken at once: one at idle, full buckets under load, never more than the time for a batch allows.

What comes while a batch is worked on waits for it, so a batch may take so many seconds at most; what an image takes is
learnt from the batches that were. Within that, what is asked for follows what was found: twice as many after a claim
that was filled, as few as there were after one that was not. So a burst after a quiet time is shared out among the
workers, and a backlog makes buckets full.
"""

_NEWEST = 0.3
"""Weight of the newest batch in what images take."""


class BatchSize:
    """How many images one model is given at once, learnt over its turns; may be used by several threads.

    Parameters
    ----------
    largest
        More are never taken.
    seconds
        How long a batch may take, from its first pixel to its last score; 0: as long as it does.
    side_by_side
        How many are decoded at once: fewer are never asked for, but where the time allows no more.
    """

    def __init__(self, largest: int, *, seconds: float, side_by_side: int = 1) -> None:
        self._largest = largest
        self._seconds = seconds
        self._least = min(side_by_side, largest)
        self._side_by_side = side_by_side
        self._asked = largest
        self._decoding = self._classifying = 0.0
        """Seconds: of as many images as are decoded at once, and of one image in the network."""

    @property
    def allowed(self) -> int:
        """The bucket, a power of two, that the time for a batch allows; all until it is known what an image takes."""
        if not self._seconds:
            return self._largest
        bucket = bucket_within(self._largest)
        while bucket > 1 and self._expected(bucket) > self._seconds:
            bucket //= 2
        return self._largest if bucket == bucket_within(self._largest) else bucket

    def _expected(self, count: int) -> float:
        return -(-count // self._side_by_side) * self._decoding + count * self._classifying

    @property
    def wanted(self) -> int:
        """How many to take now."""
        return min(self._asked, self.allowed)

    def found(self, asked: int, count: int) -> None:
        """Say how many there were when so many were asked for."""
        if count < asked:
            self._asked = max(self._least, count)
        else:
            self._asked = min(self._largest, 2 * asked)

    def lasted(self, count: int, decoding: float, classifying: float) -> None:
        """Say how many seconds a batch of `count` images was decoded for, and then classified for."""
        rounds = -(-count // self._side_by_side)
        weight = _NEWEST if self._decoding or self._classifying else 1.0
        self._decoding += weight * (decoding / rounds - self._decoding)
        self._classifying += weight * (classifying / count - self._classifying)


def bucket_within(count: int) -> int:
    """Return the largest power of two that is not more than `count`, at least 1."""
    return 1 << (count.bit_length() - 1)

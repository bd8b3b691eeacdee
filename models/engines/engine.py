"""What the classifier asks of whatever computes a network."""

from typing import Protocol

from models.preprocessing import FloatArray


class Engine(Protocol):
    """A loaded network; it belongs to one process (neither CUDA nor a pool of threads survives a fork)."""

    @property
    def name(self) -> str:
        """`keras`, `keras-mixed` or `onnx`, as a prediction records it."""
        ...

    @property
    def device(self) -> str:
        """`cpu` or `gpu`."""
        ...

    @property
    def buckets(self) -> tuple[int, ...]:
        """Sizes of batch that it computes, rising, each prepared once; empty: it takes any size as it comes."""
        ...

    def outputs(self, batch: FloatArray) -> FloatArray:
        """Return what the network's last layer gives: float32 (N, H, W, C) in, float32 (N, U) out.

        N is one of the buckets, where there are any.
        """
        ...

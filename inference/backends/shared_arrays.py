"""Arrays handed to another process by memory that has no name: it is gone when nobody maps it."""

from __future__ import annotations

import mmap
import os
import socket
import tempfile
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray


def send_array(connection: Connection, over: socket.socket, array: NDArray[Any]) -> None:
    """Copy an array into new shared memory and hand that over.

    ``over`` and ``connection`` are the same socket: the one passes the descriptor, the other says
    shape and type.
    """
    content = np.ascontiguousarray(array).data.cast("B")
    descriptor = _unnamed_file()
    try:
        done = 0
        while done < len(content):
            done += os.write(descriptor, content[done:])
        connection.send((array.shape, array.dtype.str))
        socket.send_fds(over, [b"\0"], [descriptor])
    finally:
        os.close(descriptor)


def receive_array(connection: Connection, over: socket.socket) -> NDArray[Any]:
    """Map what `send_array` handed over, without a copy.

    Raises
    ------
    EOFError
        The other side ended before.
    """
    shape, dtype = connection.recv()
    _, descriptors, _, _ = socket.recv_fds(over, 1, 1)
    if not descriptors:
        raise EOFError
    try:
        mapped = mmap.mmap(descriptors[0], 0)
    finally:
        os.close(descriptors[0])
    return np.frombuffer(mapped, dtype=dtype).reshape(shape)


def _unnamed_file() -> int:
    """Open memory as a file, or where the system has none, a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("clinfer")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

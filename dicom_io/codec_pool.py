"""A few decoder processes, shared by the threads that assemble a volume."""

from __future__ import annotations

import os
import queue
import select
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType

_WORKER = Path(__file__).with_name("codec_worker.py")
FRAME_TIMEOUT_S = 60.0
"""A frame that takes longer is refused; 512 x 512 JPEG 2000 takes about 0.03 s."""


class DecodeFailedError(Exception):
    """The decoder said no, stopped, or took too long; the message says which."""


class CodecPool:
    """Up to ``size`` decoder processes, each started when first needed.

    `decode` may be called from ``size`` threads at once. Leaving the context ends the processes.
    """

    def __init__(self, size: int) -> None:
        self._idle: queue.Queue[_Worker | None] = queue.Queue()
        for _ in range(size):
            self._idle.put(None)
        self._all: list[_Worker] = []

    def __enter__(self) -> CodecPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._all:
            worker.close()

    def decode(self, codec: bytes, data: bytes, expected_bytes: int) -> bytes:
        """Decode one stream to exactly ``expected_bytes``.

        Raises
        ------
        DecodeFailedError
        """
        worker = self._idle.get()
        try:
            if worker is None:
                worker = _Worker()
                self._all.append(worker)
            return worker.decode(codec, data, expected_bytes)
        except (OSError, DecodeFailedError) as error:
            if worker is not None and not worker.is_usable:
                worker.close()
                worker = None
            if isinstance(error, OSError):
                raise DecodeFailedError(f"the decoder stopped: {error}") from error
            raise
        finally:
            self._idle.put(worker)


class _Worker:
    """One decoder process."""

    def __init__(self) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - our own file, no text from outside
            [sys.executable, "-I", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self.is_usable = True

    def decode(self, codec: bytes, data: bytes, expected_bytes: int) -> bytes:
        self.is_usable = False  # until a whole answer was read
        self._requests.write(struct.pack("<4sI", codec, len(data)))
        self._requests.write(data)
        self._requests.flush()
        ready, _, _ = select.select([self._answers], [], [], FRAME_TIMEOUT_S)
        if not ready:
            raise DecodeFailedError(f"the decoder took more than {FRAME_TIMEOUT_S:g} s")
        status, length = struct.unpack("<II", self._read(8))
        if status == 0 and length != expected_bytes:
            raise DecodeFailedError(f"{length} bytes decoded where {expected_bytes} belong")
        answer = self._read(length)
        self.is_usable = True
        if status != 0:
            raise DecodeFailedError(answer.decode("utf-8", "replace"))
        return answer

    def _read(self, length: int) -> bytes:
        data = self._answers.read(length)
        if len(data) < length:
            raise DecodeFailedError(f"the decoder stopped (exit status {self._process.wait()})")
        return data

    def close(self) -> None:
        """End the process and its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._answers):
            try:
                pipe.close()
            except OSError:
                continue  # unsent bytes for a process that is gone

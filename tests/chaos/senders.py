"""Modalities that keep their own list of what was acknowledged, and send again what was not."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association

from tests.builders.instances import CT_IMAGE
from tests.chaos.inputs import Slice

TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """An instance that the service answered with 0x0000, and when."""

    slice: Slice
    at: float


class Senders:
    """Several associations at once; ``quota`` says how many instances may be out by now."""

    def __init__(self, slices: Sequence[Slice], *, port: int, n_senders: int = 2) -> None:
        _config.STORE_SEND_CHUNKED_DATASET = True
        self.acknowledged: list[Acknowledged] = []
        self.refused: list[tuple[Slice, int]] = []
        self.n_attempts = 0
        self._quota = 0
        self._port = port
        self._n_slices = len(slices)
        self._waiting: queue.SimpleQueue[Slice] = queue.SimpleQueue()
        for one in slices:
            self._waiting.put(one)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"sender-{number}", daemon=True)
            for number in range(n_senders)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def allow(self, quota: int) -> None:
        """Let so many instances be acknowledged in all."""
        self._quota = quota

    @property
    def is_done(self) -> bool:
        return len(self.acknowledged) + len(self.refused) >= self._n_slices

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            association = self._associate()
            if association is None:
                self._stop.wait(0.05)
                continue
            try:
                for one in self._allowed():
                    if not self._send(association, one):
                        break
            finally:
                if association.is_established:
                    association.release()
                else:
                    association.kill()

    def _allowed(self) -> Iterator[Slice]:
        while not self._stop.is_set():
            if len(self.acknowledged) >= self._quota:
                self._stop.wait(0.02)
                continue
            try:
                yield self._waiting.get(timeout=0.1)
            except queue.Empty:
                continue

    def _associate(self) -> Association | None:
        entity = AE(ae_title="CHAOS")
        entity.acse_timeout = entity.dimse_timeout = TIMEOUT_S
        entity.network_timeout = entity.connection_timeout = TIMEOUT_S
        entity.add_requested_context(CT_IMAGE, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", self._port, ae_title="CLINFER")
        return association if association.is_established else None

    def _send(self, association: Association, one: Slice) -> bool:
        self.n_attempts += 1
        try:
            answer = association.send_c_store(one.path)
        except (RuntimeError, OSError):
            self._waiting.put(one)
            return False
        status = answer.get("Status")
        if status == 0x0000:
            self.acknowledged.append(Acknowledged(slice=one, at=time.monotonic()))
            return True
        if status is not None and status >> 8 != 0xA7:  # out of resources is worth another try
            self.refused.append((one, int(status)))
            return True
        self._waiting.put(one)
        return association.is_established

"""A gRPC connection to a Triton server."""

from __future__ import annotations

import grpc
from tritonclient.grpc import service_pb2_grpc

from inference.backends.triton_contract import SECRET_HEADER

Metadata = tuple[tuple[str, str], ...]

_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that was restarted is found again within a second, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Never through the proxy that the environment may name: volumes stay on the private network.
    ("grpc.enable_http_proxy", 0),
)


class TritonChannel:
    """One connection and its stub; any thread may use it."""

    def __init__(self, address: str, *, secret: str | None) -> None:
        self.address = address
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self.metadata: Metadata = () if secret is None else ((SECRET_HEADER, secret),)

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        self._channel.close()

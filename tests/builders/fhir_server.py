"""A FHIR server that keeps what transactions give it, and fails when it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FhirServer:
    """``faults`` are taken one for each request: a status, or "silent" (commit, no answer)."""

    faults: list[Any] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    stored: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    bundles: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def of_type(self, type: str) -> list[dict[str, Any]]:
        return [one for (kind, _), one in self.stored.items() if kind == type]

    def commit(self, bundle: dict[str, Any]) -> dict[str, Any]:
        """Conditional create and update, keyed by what the request says."""
        self.bundles.append(bundle)
        answers = []
        for entry in bundle["entry"]:
            request, resource = entry["request"], entry["resource"]
            type = resource["resourceType"]
            key = (
                type,
                request.get("ifNoneExist") or request["url"].partition("?")[2] or request["url"],
            )
            is_new = key not in self.stored
            if is_new or request["method"] == "PUT":
                self.stored[key] = resource
            answers.append({"response": {"status": "201 Created" if is_new else "200 OK"}})
        return {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}


@contextmanager
def running_fhir_server() -> Iterator[FhirServer]:
    state = FhirServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fault = state.faults.pop(0) if state.faults else None
            if isinstance(fault, int):
                self.send_response(fault)
                for name, value in state.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            answer = json.dumps(state.commit(json.loads(body))).encode()
            if fault == "silent":
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/fhir+json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/fhir"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()

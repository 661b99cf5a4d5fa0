"""A small OpenID Connect provider on loopback: discovery, keys, code and token; PKCE checked."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "clinfer", "the secret of the client"


@dataclass
class Provider:
    """The provider's state; a test bends what it says."""

    issuer: str = ""
    said_issuer: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    subject: str = "4711"
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    token: str | None = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    keys_answer: str = "keys"

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": self.subject,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "preferred_username": "Ada.Lovelace",
            "name": "Ada Lovelace",
        } | self.claims
        header = {"alg": "RS256", "kid": self.key.kid} | self.header
        return jwt.encode(
            header, {k: v for k, v in claims.items() if v is not None}, self.key,
            algorithms=["RS256"],
        )  # fmt: skip

    def answer(self, method: str, path: str, query: dict[str, str], form: dict[str, str], login):
        """Return status, headers and body of one request."""
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return 200, {}, {
                "issuer": self.said_issuer or self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
            }  # fmt: skip
        if path == "/keys":
            if self.keys_answer == "keys":
                return 200, {}, {"keys": [self.key.as_dict(private=False)]}
            return (200, {}, b"x" * 3_000_000) if self.keys_answer == "huge" else (500, {}, {})
        if path == "/authorize":
            code = f"code-{len(self.codes)}"
            self.codes[code] = query
            target = f"{query['redirect_uri']}?code={code}&state={query['state']}"
            return 303, {"Location": f"{target}&iss={self.issuer}"}, {}
        if path == "/token" and method == "POST":
            return self._token(form, login)
        return 404, {}, {}

    def _token(self, form: dict[str, str], login: str):
        begun = self.codes.pop(form.get("code", ""), None)
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if begun is None or login != f"Basic {expected}" or challenge != begun["code_challenge"]:
            return 400, {}, {"error": "invalid_grant"}
        token = self.token or self.id_token(begun["nonce"])
        return 200, {}, {"id_token": token, "access_token": "unused", "token_type": "Bearer"}


@contextmanager
def running_provider() -> Iterator[Provider]:
    """Serve a provider on a free port."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            form = parse_qs(self.rfile.read(length).decode())
            status, headers, body = provider.answer(
                self.command,
                parts.path,
                {k: v[0] for k, v in parse_qs(parts.query).items()},
                {k: v[0] for k, v in form.items()},
                self.headers.get("Authorization", ""),
            )
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = _serve  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

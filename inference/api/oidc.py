"""Signing in at an identity provider: OpenID Connect, authorization code with PKCE.

The provider's discovery document and keys are fetched from the configured issuer and from nowhere
else; what a token's header says about where keys are (jku, x5u) is a reason to refuse it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from inference.domain.errors import ClinferError
from inference.domain.roles import Role

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
LEEWAY_S = 30
MAX_ANSWER_BYTES = 1024 * 1024
FETCH_TIMEOUT_S = 5.0
KEYS_MAX_AGE_S = 3600.0
REFETCH_EVERY_S = 60.0
"""An unknown key id fetches the keys anew, but not more often: ids cost an attacker nothing."""
BEGUN_LIFE_S = 600.0
MAX_BEGUN = 1000
_FORBIDDEN_HEADERS = frozenset({"jku", "x5u", "jwk", "x5c", "crit", "zip", "enc"})
_MAX_TOKEN_CHARACTERS = 16_384
_MAX_KID_CHARACTERS = 256


class OidcError(ClinferError):
    """A sign-in at the provider is refused; ``field`` names the claim, header or parameter."""

    code = "oidc"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


class OidcUnavailableError(ClinferError):
    """The provider gives no usable answer, and nothing cached stands in for it."""

    code = "oidc_unavailable"

    def __init__(self, *, what: str, problem: str) -> None:
        self.what, self.problem = what, problem
        super().__init__(f"{what}: {problem}")


@dataclass(frozen=True, kw_only=True)
class OidcOptions:
    """How this service is registered at the provider, and what its groups mean here."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    label: str
    roles_claim: str
    roles: Mapping[str, frozenset[Role]]


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A sign-in that is under way; bound to one browser by ``state`` in a cookie."""

    state: str
    nonce: str
    verifier: str
    target: str
    began_s: float


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What a checked token says about a person."""

    issuer: str
    subject: str
    preferred_name: str
    display_name: str
    roles: frozenset[Role]


class OidcClient:
    """The relying party; safe to use from several threads."""

    def __init__(
        self,
        options: OidcOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self._clock, self._wall_clock = clock, wall_clock
        self._lock = threading.Lock()
        self._begun: OrderedDict[str, Begun] = OrderedDict()
        self._discovery: dict[str, Any] | None = None
        self._keys: KeySet | None = None
        self._key_ids: frozenset[str] = frozenset()
        self._fetched_s = self._tried_s = float("-inf")

    def begin(self, target: str) -> tuple[str, str]:
        """Return the provider's address to send a browser to, and the state to bind it to.

        Raises
        ------
        OidcUnavailableError
        """
        endpoint = self._endpoint("authorization_endpoint")
        begun = Begun(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            target=target,
            began_s=self._clock(),
        )
        with self._lock:
            self._begun[begun.state] = begun
            while len(self._begun) > MAX_BEGUN:
                self._begun.popitem(last=False)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest())
        query = {
            "response_type": "code",
            "client_id": self.options.client_id,
            "redirect_uri": self.options.redirect_uri,
            "scope": "openid profile",
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": challenge.rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in endpoint else "?"
        return f"{endpoint}{joint}{urlencode(query)}", begun.state

    def finish(
        self, *, state: str, bound_state: str, code: str, issuer: str = ""
    ) -> tuple[Claimed, str]:
        """Exchange the code and check the token; return who it is and where they wanted to go.

        ``bound_state`` is that of the browser's cookie: a link that somebody else began signs
        nobody in.

        Raises
        ------
        OidcError, OidcUnavailableError
        """
        with self._lock:
            begun = self._begun.pop(state, None)
        if begun is None or self._clock() - begun.began_s > BEGUN_LIFE_S:
            raise OidcError(field="state", problem="is not of a sign-in that is under way")
        if not hmac.compare_digest(begun.state, bound_state):
            raise OidcError(field="state", problem="belongs to another browser")
        if issuer and issuer != self.options.issuer:
            raise OidcError(field="iss", problem="is another provider's (RFC 9207)")
        token = self._exchange(code, begun.verifier)
        return self.check(token, nonce=begun.nonce), begun.target

    def check(self, token: str, *, nonce: str) -> Claimed:
        """Check an ID token (OpenID Connect Core 3.1.3.7) and read it.

        Raises
        ------
        OidcError, OidcUnavailableError
        """
        header = _header(token)
        key_set = self._keys_for(str(header.get("kid", "")))
        try:
            claims = jwt.decode(token, key_set, algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise OidcError(field="signature", problem="does not hold") from error
        self._check_claims(claims, nonce)
        return Claimed(
            issuer=self.options.issuer,
            subject=claims["sub"],
            preferred_name=str(claims.get("preferred_username") or claims["sub"]),
            display_name=str(claims.get("name") or ""),
            roles=self._roles_of(claims),
        )

    def _check_claims(self, claims: Mapping[str, Any], nonce: str) -> None:
        now, options = self._wall_clock(), self.options
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        subject = claims.get("sub")
        checks = (
            ("iss", claims.get("iss") == options.issuer, "is another provider's"),
            ("aud", options.client_id in audiences, "is another service"),
            (
                "azp",
                claims.get("azp", options.client_id if len(audiences) == 1 else None)
                == options.client_id,
                "is another service",
            ),
            ("sub", isinstance(subject, str) and 0 < len(subject) <= 255, "is missing"),
            ("exp", _number(claims.get("exp")) > now - LEEWAY_S, "is over or missing"),
            ("iat", _number(claims.get("iat")) <= now + LEEWAY_S, "is missing or in the future"),
            ("nbf", _number(claims.get("nbf", 0)) <= now + LEEWAY_S, "is in the future"),
            (
                "nonce",
                hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()),
                "is not that of this sign-in",
            ),
        )
        for name, holds, problem in checks:
            if not holds:
                raise OidcError(field=name, problem=problem)

    def _roles_of(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        """Map the claim's values; those that the settings do not name give nothing."""
        value: Any = claims
        for part in self.options.roles_claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        values = value if isinstance(value, list) else [value]
        found: frozenset[Role] = frozenset()
        for one in values:
            if isinstance(one, str):
                found |= self.options.roles.get(one, frozenset())
        return found

    def _exchange(self, code: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.options.redirect_uri,
            "code_verifier": verifier,
        }
        answer = self._fetch("POST", self._endpoint("token_endpoint"), form=form)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise OidcError(field="id_token", problem="the provider gave none")
        return token

    def _keys_for(self, kid: str) -> KeySet:
        """Return the provider's keys; fetched again where they are old or lack the id."""
        now = self._clock()
        with self._lock:
            is_old = now - self._fetched_s > KEYS_MAX_AGE_S
            is_unknown = kid not in self._key_ids
            may_try = now - self._tried_s > REFETCH_EVERY_S
            if (is_old or is_unknown) and may_try:
                self._tried_s = now
                try:
                    self._take_keys(self._fetch("GET", self._endpoint("jwks_uri")), now)
                except OidcUnavailableError:
                    if self._keys is None or is_old:
                        raise
            if self._keys is None or now - self._fetched_s > KEYS_MAX_AGE_S:
                raise OidcUnavailableError(what="jwks_uri", problem="gives no keys")
            if kid not in self._key_ids:
                raise OidcError(field="kid", problem="is not one of the provider's keys")
            return self._keys

    def _take_keys(self, document: dict[str, Any], now: float) -> None:
        try:
            keys = KeySet.import_key_set(
                {"keys": [key for key in document["keys"] if key.get("use", "sig") == "sig"]}
            )
        except (JoseError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise OidcUnavailableError(what="jwks_uri", problem="holds no key set") from error
        self._keys, self._fetched_s = keys, now
        self._key_ids = frozenset(str(key.kid or "") for key in keys.keys)

    def _endpoint(self, name: str) -> str:
        if self._discovery is None:
            url = f"{self.options.issuer.rstrip('/')}/.well-known/openid-configuration"
            found = self._fetch("GET", url)
            if found.get("issuer") != self.options.issuer:
                raise OidcUnavailableError(what=url, problem="names another issuer")
            self._discovery = found
        endpoint = self._discovery.get(name)
        if not isinstance(endpoint, str) or not is_safe_url(endpoint):
            raise OidcUnavailableError(what=name, problem="is missing or not https")
        return endpoint

    def _fetch(self, method: str, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        """Ask the provider; no redirect is followed, and an answer has an end."""
        if not is_safe_url(url):
            raise OidcUnavailableError(what=url, problem="is not https")
        login = (self.options.client_id, self.options.client_secret) if form else None
        body = b""
        ends_s = time.monotonic() + FETCH_TIMEOUT_S
        try:
            with (
                httpx.Client(timeout=FETCH_TIMEOUT_S, trust_env=False) as client,
                client.stream(
                    method, url, data=form, auth=login, headers={"Accept-Encoding": "identity"}
                ) as answer,
            ):
                for piece in answer.iter_raw(65536):
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES or time.monotonic() > ends_s:
                        raise OidcUnavailableError(what=url, problem="too large or too slow")
        except httpx.HTTPError as error:
            raise OidcUnavailableError(what=url, problem=type(error).__name__) from error
        if 400 <= answer.status_code < 500 and form is not None:
            raise OidcError(field="code", problem="was refused by the provider")
        if answer.status_code != 200:
            raise OidcUnavailableError(what=url, problem=f"answered {answer.status_code}")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise OidcUnavailableError(what=url, problem="is not JSON") from error
        if not isinstance(found, dict):
            raise OidcUnavailableError(what=url, problem="is not a JSON object")
        return found


def is_safe_url(url: str) -> bool:
    """Whether an address is https, or http on this machine."""
    parts = urlsplit(url)
    is_here = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_here)
    )


def _header(token: str) -> dict[str, Any]:
    if len(token) > _MAX_TOKEN_CHARACTERS or token.count(".") != 2:
        raise OidcError(field="id_token", problem="is not a signed token (JWS)")
    first = token.split(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (ValueError, RecursionError) as error:
        raise OidcError(field="id_token", problem="has no header") from error
    if not isinstance(header, dict):
        raise OidcError(field="id_token", problem="has no header")
    for name in sorted(_FORBIDDEN_HEADERS & header.keys()):
        raise OidcError(field=name, problem="is not taken in a header")
    if header.get("alg") not in ALGORITHMS:
        raise OidcError(field="alg", problem=f"is not one of {', '.join(ALGORITHMS)}")
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise OidcError(field="typ", problem="is not JWT")
    if not isinstance(header.get("kid", ""), str) or len(header.get("kid", "")) > (
        _MAX_KID_CHARACTERS
    ):
        raise OidcError(field="kid", problem="is not a short text")
    return header


def _number(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else float("nan")  # type: ignore[arg-type]

"""Signing in at a real provider on loopback; every token that does not hold is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwe
from joserfc.jwk import OctKey, RSAKey

from inference.api.oidc import (
    KEYS_MAX_AGE_S,
    OidcClient,
    OidcError,
    OidcOptions,
    OidcUnavailableError,
)
from inference.domain.roles import Role
from inference.settings import SettingsError, load_settings
from inference.storage import people
from tests.builders.app import BASE_URL, App, Browser, built_app
from tests.builders.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, running_provider

ANSWER = "/sign-in/provider/answer"


@pytest.fixture(scope="module")
def shared_provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    fresh = Provider(issuer=shared_provider.issuer, key=shared_provider.key)
    shared_provider.__dict__.update(fresh.__dict__)
    return shared_provider


@pytest.fixture
def app(tmp_path: Path, provider: Provider) -> Iterator[App]:
    options = {
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
        "oidc_roles": {"radiology": ("reader", "reviewer"), "it": ("admin",)},
        "public_url": BASE_URL,
    }
    with built_app(tmp_path, **options) as built:
        yield built


def begin(browser: Browser, target: str = "/") -> str:
    """Follow the way out and through the provider; return the address to come back to."""
    out = browser.get(f"/sign-in/provider?next={target}")
    assert out.status_code == 303
    back = httpx.get(out.headers["location"], follow_redirects=False).headers["location"]
    assert back.startswith(BASE_URL + ANSWER)
    return back.removeprefix(BASE_URL)


def test_a_person_of_the_provider_signs_in_with_mapped_roles(app: App, provider: Provider) -> None:
    provider.claims = {"groups": ["radiology", "everybody"]}
    browser = app.browser()
    assert "the hospital&#39;s account" in browser.get("/sign-in").text
    back = begin(browser, "/studies/1.2.3")
    answer = browser.get(back)
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies/1.2.3")
    assert browser.get("/").status_code == 200
    with app.database.read() as connection:
        person = people.find_of_issuer(connection, provider.issuer, "4711")
    assert person is not None
    assert (person.name, person.roles) == ("ada.lovelace", {Role.READER, Role.REVIEWER})
    assert browser.get(back).status_code == 401  # the code and state are used up


def test_the_roles_are_those_of_todays_token(app: App, provider: Provider) -> None:
    provider.claims = {"groups": ["radiology"]}
    browser = app.browser()
    browser.get(begin(browser))
    provider.claims = {"groups": "it"}
    later = app.browser()
    assert later.get(begin(later)).headers["location"] == "/admin"
    assert browser.get("/").status_code == 403


@pytest.mark.parametrize("groups", [None, [], ["everybody"], 7, {"radiology": True}, [["it"]]])
def test_unmapped_claims_give_no_role_and_no_session(
    app: App, provider: Provider, groups: object
) -> None:
    provider.claims = {"groups": groups}
    browser = app.browser()
    answer = browser.get(begin(browser))
    assert answer.status_code == 403
    assert "none of your groups has a role" in answer.text
    assert browser.get("/").status_code == 303


def test_a_name_that_a_local_person_has_is_not_taken_over(app: App, provider: Provider) -> None:
    app.person("ada.lovelace", Role.ADMIN)
    provider.claims = {"groups": ["radiology"]}
    browser = app.browser()
    browser.get(begin(browser))
    with app.database.read() as connection:
        names = {one.name: one.roles for one in people.list_people(connection)}
    assert names.pop("ada.lovelace") == {Role.ADMIN}
    (other,) = names
    assert other.startswith("ada.lovelace-")


def test_a_disabled_person_of_the_provider_stays_out(app: App, provider: Provider) -> None:
    provider.claims = {"groups": ["radiology"]}
    browser = app.browser()
    browser.get(begin(browser))
    with app.database.write() as connection:
        people.set_disabled(connection, "ada.lovelace", True)
    again = app.browser()
    assert again.get(begin(again)).status_code == 403
    assert browser.get("/").status_code == 303


def test_somebody_elses_sign_in_is_not_finished_here(app: App, provider: Provider) -> None:
    provider.claims = {"groups": ["radiology"]}
    back = begin(app.browser())
    victim = app.browser()
    answer = victim.get(back)
    assert answer.status_code == 401
    assert "belongs to another browser" in answer.text


NOW = int(time.time())
BAD_CLAIMS = {
    "wrong iss": ({"iss": "https://evil.example"}, "iss"),
    "wrong aud": ({"aud": "other"}, "aud"),
    "aud of many without azp": ({"aud": [CLIENT_ID, "other"]}, "azp"),
    "wrong azp": ({"azp": "other"}, "azp"),
    "future nbf": ({"nbf": NOW + 3600}, "nbf"),
    "over by 31 s": ({"exp": NOW - 31}, "exp"),
    "exp is a text": ({"exp": "9999999999"}, "exp"),
    "exp is NaN": ({"exp": float("nan")}, "exp"),
    "no exp": ({"exp": None}, "exp"),
    "no iat": ({"iat": None}, "iat"),
    "no sub": ({"sub": None}, "sub"),
    "empty sub": ({"sub": ""}, "sub"),
    "sub is a number": ({"sub": 5}, "sub"),
    "wrong nonce": ({"nonce": "of another sign-in"}, "nonce"),
    "no nonce": ({"nonce": None}, "nonce"),
}
BAD_HEADERS = {
    "wrong typ": ({"typ": "at+jwt"}, "typ"),
    "jku": ({"jku": "http://127.0.0.1:1/keys"}, "jku"),
    "x5u": ({"x5u": "http://127.0.0.1:1/cert"}, "x5u"),
    "own key": ({"jwk": {"kty": "oct", "k": "AAAA"}}, "jwk"),
    "kid path": ({"kid": "../../canary"}, "kid"),
    "kid sql": ({"kid": "' OR 1=1 --"}, "kid"),
    "kid 10 KB": ({"kid": "k" * 10_240}, "kid"),
}


def refused(client: OidcClient, token: str) -> str:
    with pytest.raises(OidcError) as caught:
        client.check(token, nonce="n")
    return caught.value.field


def made_client(provider: Provider, clock: list[float]) -> OidcClient:
    return OidcClient(
        OidcOptions(
            issuer=provider.issuer,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            redirect_uri=f"{BASE_URL}{ANSWER}",
            label="x",
            roles_claim="groups",
            roles={},
        ),
        clock=lambda: clock[0],
    )


@pytest.fixture
def client(provider: Provider) -> OidcClient:
    return made_client(provider, [1000.0])


@pytest.mark.parametrize("case", BAD_CLAIMS)
def test_auth_005_claims_that_do_not_hold(
    client: OidcClient, provider: Provider, case: str
) -> None:
    provider.claims, field = BAD_CLAIMS[case]
    assert refused(client, provider.id_token("n")) == field


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_auth_005_006_headers_that_are_not_taken(
    client: OidcClient, provider: Provider, case: str
) -> None:
    header, field = BAD_HEADERS[case]
    token = provider.id_token("n")
    assert client.check(token, nonce="n").subject == "4711"
    assert refused(client, bend(token, header)) == field
    assert set(provider.asked) <= {"/.well-known/openid-configuration", "/keys"}


def bend(token: str, header: dict[str, object]) -> str:
    """Put something into a token's header; where that is not noticed, the signature is."""
    import base64

    first, rest = token.split(".", 1)
    read = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    changed = base64.urlsafe_b64encode(json.dumps(read | header).encode()).rstrip(b"=").decode()
    return f"{changed}.{rest}"


def test_auth_003_unknown_crit_headers_are_refused(client: OidcClient, provider: Provider) -> None:
    assert refused(client, bend(provider.id_token("n"), {"crit": ["x"], "x": 1})) == "crit"


def test_auth_004_encrypted_tokens_are_not_taken_at_all(
    client: OidcClient, provider: Provider
) -> None:
    bomb = jwe.encrypt_compact(
        {"alg": "dir", "enc": "A128GCM", "zip": "DEF"},
        b"0" * 200_000,
        OctKey.generate_key(128),
    )
    assert refused(client, bomb) == "id_token"
    assert refused(client, "a" * 20_000 + ".b.c") == "id_token"


@pytest.mark.parametrize("alg", ["none", "HS256", "ES256K", "RS1", ""])
def test_other_algorithms_are_refused(client: OidcClient, provider: Provider, alg: str) -> None:
    assert refused(client, bend(provider.id_token("n"), {"alg": alg})) == "alg"


def test_a_signature_of_another_key_is_refused(client: OidcClient, provider: Provider) -> None:
    good = provider.id_token("n")
    head, body, signature = good.split(".")
    assert refused(client, f"{head}.{body}.{signature[:-4]}AAAA") == "signature"
    forged = Provider(issuer=provider.issuer, key=RSAKey.generate_key(2048, {"kid": "one"}))
    client.check(good, nonce="n")
    assert refused(client, forged.id_token("n")) == "signature"


def test_a_token_that_does_not_hold_signs_nobody_in(app: App, provider: Provider) -> None:
    provider.claims = {"groups": ["it"], "aud": "other"}
    browser = app.browser()
    answer = browser.get(begin(browser))
    assert answer.status_code == 401
    assert "aud" in answer.text
    assert browser.get("/admin/people").status_code == 303


def test_tokens_are_no_keys_of_the_api(app: App, provider: Provider) -> None:
    provider.claims = {"groups": ["it"]}
    token = provider.id_token("n")
    answer = app.browser().get("/v1/studies", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


class TestKeys:
    """auth-008: the keys' address is down, slow, huge, or has other keys."""

    def test_cached_keys_are_used_until_their_age_then_503(self, provider: Provider) -> None:
        clock = [1000.0]
        client = made_client(provider, clock)
        client.check(provider.id_token("n"), nonce="n")
        provider.keys_answer = "down"
        clock[0] += KEYS_MAX_AGE_S - 1
        client.check(provider.id_token("n"), nonce="n")
        clock[0] += 2
        with pytest.raises(OidcUnavailableError):
            client.check(provider.id_token("n"), nonce="n")

    def test_a_new_key_is_fetched_once_and_a_made_up_one_not_again(
        self, provider: Provider
    ) -> None:
        clock = [1000.0]
        client = made_client(provider, clock)
        client.check(provider.id_token("n"), nonce="n")
        provider.key = RSAKey.generate_key(2048, {"kid": "two"})
        clock[0] += 61
        client.check(provider.id_token("n"), nonce="n")
        assert provider.asked.count("/keys") == 2
        for n in range(20):
            assert refused(client, bend(provider.id_token("n"), {"kid": f"made-up-{n}"})) == "kid"
        assert provider.asked.count("/keys") == 2

    @pytest.mark.parametrize("answer", ["huge", "down"])
    def test_no_keys_is_503_and_nobody_comes_in(
        self, app: App, provider: Provider, answer: str
    ) -> None:
        provider.keys_answer, provider.claims = answer, {"groups": ["it"]}
        browser = app.browser()
        assert browser.get(begin(browser)).status_code == 503
        assert browser.get("/admin/people").status_code == 303


def test_a_provider_that_names_another_issuer_is_not_used(provider: Provider, app: App) -> None:
    provider.said_issuer = "https://evil.example"
    assert app.browser().get("/sign-in/provider").status_code == 503


def test_pkce_nonce_and_state_differ_each_time(app: App, provider: Provider) -> None:
    seen = []
    for _ in range(2):
        query = parse_qs(urlsplit(app.browser().get("/sign-in/provider").headers["location"]).query)
        assert query["code_challenge_method"] == ["S256"]
        assert query["response_type"] == ["code"]
        seen.append({name: query[name][0] for name in ("state", "nonce", "code_challenge")})
    assert not set(seen[0].values()) & set(seen[1].values())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"oidc_issuer": "http://idp.example"}, "oidc_issuer"),
        ({"oidc_client_secret": None}, "oidc_client_secret"),
        ({"public_url": None}, "public_url"),
        ({"oidc_roles": {"g": ("patient",)}}, "oidc_roles"),
    ],
)
def test_settings_that_do_not_go_together_stop_the_start(
    change: dict[str, object], field: str
) -> None:
    options = {
        "oidc_issuer": "https://idp.example",
        "oidc_client_id": "a",
        "oidc_client_secret": "b",
        "public_url": "https://ai.example",
        "oidc_roles": {"g": ("reader",)},
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(options | change)
    assert caught.value.field == field

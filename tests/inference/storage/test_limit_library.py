from __future__ import annotations

import base64
import json
import runpy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from inference.domain.care_errors import LibraryError
from inference.storage.limit_library import load_library, read_signers
from tests.builders.care import LIMIT, NOW, RATE, Signer, payload, write_library

ONE, TWO = Signer("Ada Pharmacist", "ada-1"), Signer("Ben Physician", "ben-1")


@pytest.fixture
def signers(tmp_path: Path):
    path = tmp_path / "signers.json"
    path.write_text(json.dumps([ONE.row(), TWO.row()]))
    return read_signers(path)


def load(tmp_path: Path, signers, content: bytes, signatures, **options):
    path = write_library(tmp_path / "library.json", content, signatures)
    return load_library(path, signers=signers, now=NOW, **options)


def test_two_named_persons_make_a_library(tmp_path: Path, signers) -> None:
    content = payload()
    found = load(tmp_path, signers, content, [ONE.sign(content), TWO.sign(content)])
    assert found.signed_by == ("ada pharmacist", "ben physician")
    assert (found.limits[0].parameter, found.limits[0].hard_high) == (RATE, 6.0)


def test_once_signed_is_not_signed(tmp_path: Path, signers) -> None:
    content = payload()
    for signatures in ([], [ONE.sign(content)], [ONE.sign(content), ONE.sign(content)]):
        with pytest.raises(LibraryError, match="2 are needed"):
            load(tmp_path, signers, content, signatures)


def test_one_person_with_two_keys_is_one_person(tmp_path: Path) -> None:
    second = Signer("ada pharmacist ", "ada-2")
    path = tmp_path / "signers.json"
    path.write_text(json.dumps([ONE.row(), second.row()]))
    content = payload()
    with pytest.raises(LibraryError, match="2 are needed"):
        load(tmp_path, read_signers(path), content, [ONE.sign(content), second.sign(content)])


def test_two_names_with_one_key_are_refused(tmp_path: Path) -> None:
    again = Signer("Ben Physician", "ben-1", key=ONE.key)
    path = tmp_path / "signers.json"
    path.write_text(json.dumps([ONE.row(), again.row()]))
    with pytest.raises(LibraryError, match="twice"):
        read_signers(path)


def test_an_altered_byte_breaks_the_signature(tmp_path: Path, signers) -> None:
    content = payload()
    signatures = [ONE.sign(content), TWO.sign(content)]
    with pytest.raises(LibraryError, match="does not fit"):
        load(tmp_path, signers, content.replace(b"6.0", b"60.0"), signatures)


def test_an_unknown_signer_or_a_wrong_name_is_refused(tmp_path: Path, signers) -> None:
    content = payload()
    stranger = Signer("Cid", "cid-1").sign(content)
    renamed = TWO.sign(content) | {"person": "Somebody Else"}
    for signature in (stranger, renamed):
        with pytest.raises(LibraryError, match="not known"):
            load(tmp_path, signers, content, [ONE.sign(content), signature])


def test_a_signature_for_something_else_does_not_count(tmp_path: Path, signers) -> None:
    content = payload()
    bare = base64.b64encode(TWO.key.sign(content)).decode()
    signature = {"person": TWO.person, "key_id": TWO.key_id, "signature": bare}
    with pytest.raises(LibraryError, match="does not fit"):
        load(tmp_path, signers, content, [ONE.sign(content), signature])


@pytest.mark.parametrize(
    "changed",
    [
        {"valid_until": "2026-11-22T12:00:00+00:00"},
        {"valid_from": "2026-11-22T12:00:01+00:00"},
    ],
)
def test_an_expired_or_future_library_is_refused(tmp_path: Path, signers, changed) -> None:
    content = payload(**changed)
    with pytest.raises(LibraryError, match="valid from"):
        load(tmp_path, signers, content, [ONE.sign(content), TWO.sign(content)])


def test_example_data_loads_in_a_demo_only_and_says_so(tmp_path: Path, signers) -> None:
    content = payload(is_example=True)
    both = [ONE.sign(content), TWO.sign(content)]
    with pytest.raises(LibraryError, match="EXAMPLE"):
        load(tmp_path, signers, content, both)  # signatures do not make it more than an example
    assert load(tmp_path, signers, content, [], is_demo=True).is_example
    with pytest.raises(LibraryError, match="2 are needed"):  # a demo is no way around signing
        load(tmp_path, signers, payload(), [], is_demo=True)


@pytest.mark.parametrize(
    ("limit", "field"),
    [
        ({"unit": "mcg/kg/min"}, "unit"),
        ({"hard_high": None}, "hard_high"),
        ({"hard_high": "6"}, "hard_high"),
        ({"soft_high": 7.0}, "hard_high does not hold"),
        ({"hard_high": 0.0, "soft_high": 0.0, "soft_low": 0.0}, "does not hold"),
        ({"max_step": None}, "belong together"),
        ({"weight_kg": {"low": 150, "high": 40}}, "weight_kg"),
        ({"maximum": 3}, "maximum"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, signers, limit, field: str) -> None:
    content = payload([LIMIT | limit])
    with pytest.raises(LibraryError, match=field):
        load(tmp_path, signers, content, [ONE.sign(content), TWO.sign(content)])


def test_not_a_number_is_no_limit(tmp_path: Path, signers) -> None:
    for word in (b"NaN", b"Infinity", b"1e999"):
        content = payload().replace(b'"hard_high": 6.0', b'"hard_high": ' + word)
        with pytest.raises(LibraryError):
            load(tmp_path, signers, content, [ONE.sign(content), TWO.sign(content)])


def test_times_without_a_zone_are_refused(tmp_path: Path, signers) -> None:
    content = payload(valid_until="2027-01-01T00:00:00")
    with pytest.raises(LibraryError, match="time zone"):
        load(tmp_path, signers, content, [ONE.sign(content), TWO.sign(content)])


def test_a_missing_or_broken_file_is_named(tmp_path: Path, signers) -> None:
    with pytest.raises(LibraryError, match=r"gone\.json"):
        load_library(tmp_path / "gone.json", signers=signers, now=NOW)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(LibraryError, match=r"broken\.json"):
        load_library(broken, signers=signers, now=NOW)


def test_what_the_signing_script_writes_is_loaded(
    tmp_path: Path, repository: Path, signers
) -> None:
    script = repository / "scripts" / "sign_limits.py"
    source, library = tmp_path / "payload.json", tmp_path / "library.json"
    source.write_bytes(payload())
    subprocess.run([sys.executable, script, "pack", source, library], check=True)
    sign = runpy.run_path(str(script))["sign"]
    text = library.read_text()
    for one in (ONE, TWO):
        text = sign(text, one.key, one.person, one.key_id)
    library.write_text(text)
    assert load_library(library, signers=signers, now=NOW).version == "7"
    later = NOW + timedelta(days=40)
    with pytest.raises(LibraryError):
        load_library(library, signers=signers, now=later)

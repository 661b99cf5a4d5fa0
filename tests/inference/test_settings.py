"""Settings: one frozen object, unknown names named, unsafe combinations refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from inference.bootstrap import encodings_for, make_destination, worker_slots
from inference.domain.job import Priority
from inference.domain.result import DicomwebDestination, DimseDestination
from inference.settings import Settings, SettingsError, is_loopback, load_settings

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - refused, or served with keys


def test_defaults_listen_on_loopback_without_keys() -> None:
    settings = load_settings()
    assert (settings.http_host, settings.dicom_host) == ("127.0.0.1", "127.0.0.1")
    assert not settings.is_auth_on


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings().http_port = 1


def test_options_go_before_variables_and_variables_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clinfer.toml"
    path.write_text("http_port = 1\ndicom_port = 1\nworkers = 3\n")
    monkeypatch.setenv("CLINFER_SETTINGS_FILE", str(path))
    monkeypatch.setenv("CLINFER_HTTP_PORT", "2")
    monkeypatch.setenv("CLINFER_DICOM_PORT", "2")
    settings = load_settings({"http_port": 3, "dicom_port": None})
    assert (settings.http_port, settings.dicom_port, settings.workers) == (3, 2, 3)


def test_a_misspelt_variable_stops_the_start_and_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLINFER_HTTP_PROT", "80")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert (caught.value.field, caught.value.nearest) == ("CLINFER_HTTP_PROT", "CLINFER_HTTP_PORT")
    assert "did you mean CLINFER_HTTP_PORT" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "field", "nearest"),
    [
        ("quiet_periods = 3", "quiet_periods", "quiet_period_s"),
        (
            '[[destinations]]\nname = "a"\nkind = "dicom"\nprot = 1',
            "destinations.0.prot",
            "port",
        ),
        ("http_port = 70000", "http_port", None),
        ('dicom_ae_title = "MORE THAN SIXTEEN LETTERS"', "dicom_ae_title", None),
        ("http_port = ", None, None),
    ],
)
def test_a_wrong_key_in_the_file_is_named(
    tmp_path: Path, text: str, field: str | None, nearest: str | None
) -> None:
    path = tmp_path / "clinfer.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(settings_file=path)
    assert caught.value.field == (field or str(path))
    assert caught.value.nearest == nearest


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no file .*none\.toml"):
        load_settings(settings_file=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"http_host": ALL_ADDRESSES, "auth": "off"}, "auth"),
        ({"http_host": "::", "auth": "off"}, "auth"),
        ({"http_host": "pacs.example", "auth": "off"}, "auth"),
        ({"dicom_host": ALL_ADDRESSES}, "dicom_calling_ae_titles"),
        ({"backend": "local", "triton_address": "h:1"}, "triton_address"),
        (
            {"destinations": [{"name": "a", "kind": "stow", "url": "http://x"}] * 2},
            "destinations",
        ),
        ({"destinations": [{"name": "a", "kind": "dicom", "host": "h"}]}, "destinations.0"),
        ({"destinations": [{"name": "a", "kind": "stow", "url": "ftp://x"}]}, "destinations.0"),
    ],
)
def test_unsafe_or_senseless_combinations_are_refused(options: dict, field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(options)
    assert caught.value.field == field


def test_beyond_loopback_keys_are_on_by_themselves() -> None:
    settings = load_settings({"http_host": ALL_ADDRESSES})
    assert settings.is_auth_on
    assert load_settings({"auth": "keys"}).is_auth_on


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        (ALL_ADDRESSES, False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
    ],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_secrets_are_neither_printed_nor_told_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        {"destinations": [{"name": "a", "kind": "stow", "url": "http://x", "token": "s3cret"}]}
    )
    assert "s3cret" not in repr(settings)
    monkeypatch.setenv("CLINFER_DATABASE_URL", "postgresql+psycopg://u:s3cret@h/d")
    monkeypatch.setenv("CLINFER_WORKERS", "s3cret")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)
    destination = make_destination(settings.destinations[0], settings)
    assert isinstance(destination, DicomwebDestination)
    assert destination.headers == {"Authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(destination)


def test_a_dicom_destination_is_called_by_our_own_name() -> None:
    settings = load_settings(
        {
            "dicom_ae_title": "AISCP",
            "destinations": [
                {"name": "pacs", "kind": "dicom", "host": "h", "port": 104, "ae_title": "PACS"}
            ],
        }
    )
    destination = make_destination(settings.destinations[0], settings)
    assert isinstance(destination, DimseDestination)
    assert (destination.called_aet, destination.calling_aet) == ("PACS", "AISCP")


def test_every_setting_is_in_its_page(repository: Path) -> None:
    page = (repository / "docs" / "settings.md").read_text()
    missing = [name for name in Settings.model_fields if f"`{name}`" not in page]
    assert missing == []


def test_places_are_kept_for_stat_studies() -> None:
    assert worker_slots(load_settings({"workers": 2, "stat_workers": 1})) == (
        ("worker-1", Priority.ROUTINE),
        ("worker-2", Priority.ROUTINE),
        ("worker-stat-1", Priority.STAT),
    )


@pytest.mark.parametrize("other", [{"backend": "local"}, {"triton_address": "triton:8001"}])
def test_a_memory_budget_is_for_the_embedded_triton(other: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"model_memory_mib": 2000, **other})
    assert caught.value.field == "model_memory_mib"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"ray_address": "ray://10.0.0.1:10001"}, "ray_token"),
        ({"ray_token": "abc"}, "ray_token"),
        ({"ray_address": "http://10.0.0.1", "ray_token": "abc"}, "ray_address"),
        ({"batch_source_user": "me"}, "batch_source_password"),
        (
            {
                "batch_source_user": "me",
                "batch_source_password": "x",
                "batch_source_token": "y",
            },
            "batch_source_token",
        ),
    ],
)
def test_what_lets_a_batch_in_goes_together(options: dict[str, str], field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(options)
    assert caught.value.field == field
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"hl7_port": 2575, "hl7_host": ALL_ADDRESSES}, "hl7_senders"),
        ({"hl7_tls_key": "k.pem"}, "hl7_tls_key"),
        ({"hl7_tls_client_ca": "ca.pem"}, "hl7_tls_client_ca"),
        ({"patient_authorities": {"HOSP": "no uri"}}, "patient_authorities.HOSP"),
        ({"default_patient_authority": "HOSP"}, "default_patient_authority"),
        ({"destinations": [{"name": "his", "kind": "hl7", "host": "h"}]}, "destinations.0"),
        (
            {"destinations": [{"name": "his", "kind": "hl7", "host": "h", "port": 1, "url": "x"}]},
            "destinations.0",
        ),
        ({"destinations": [{"name": "ehr", "kind": "fhir", "url": "ftp://x"}]}, "destinations.0"),
        (
            {"destinations": [
                {"name": "pacs", "kind": "stow", "url": "http://x", "imaging_selection": True}
            ]},
            "destinations.0",
        ),
    ],
)  # fmt: skip
def test_settings_of_hl7_and_fhir_that_cannot_be_are_refused(
    options: dict[str, object], field: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(options)
    assert caught.value.field == field


def test_report_destinations_take_no_dicom_objects() -> None:
    settings = load_settings(
        {
            "destinations": [
                {"name": "his", "kind": "hl7", "host": "h", "port": 2575},
                {"name": "ehr", "kind": "fhir", "url": "http://x", "release": "after sign-off"},
            ]
        }
    )
    assert encodings_for(settings) == ()
    assert [one.takes_reports for one in settings.destinations] == [True, True]

"""Everything the service reads from outside: one frozen `Settings`, read once at start.

Sources, the earlier winning: command-line options, ``CLINFER_...`` variables, a TOML file. A name
that does not exist stops the start and is answered with the nearest one that does; each setting is
described in docs/settings.md.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from inference.domain.errors import ClinferError
from inference.domain.result import Commitment, Release, Retract
from inference.domain.roles import CONFINED_ROLES, Role
from inference.profiles import (
    Bases,
    DeliveryProfile,
    Language,
    Segmentation,
    StateObject,
    load_profile,
)

ENV_PREFIX = "CLINFER_"
SETTINGS_FILE_VARIABLE = "CLINFER_SETTINGS_FILE"
OTHER_VARIABLES = frozenset({SETTINGS_FILE_VARIABLE, "CLINFER_DEBUG"})
"""Variables that carry our prefix and are not fields of `Settings`."""

Port = Annotated[int, Field(ge=0, le=65535)]
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]*[!-\[\]-~]+$")]
"""PS3.5 VR AE: at most 16 printable characters, no backslash, not only spaces."""

Authority = Annotated[str, Field(max_length=512, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")]
"""An assigning authority: a URI, such as ``urn:oid:1.2.3``."""


IN_PROFILES = (
    "kinds",
    "segmentation",
    "language",
    "states",
    "release",
    "research",
    "commitment",
    "retract",
)
"""Keys of a destination that its profile file says instead, where it has one."""


class SettingsError(ClinferError):
    """A setting is unknown or has a wrong value; ``field`` names it."""

    code = "settings"

    def __init__(self, *, field: str, problem: str, nearest: str | None = None) -> None:
        self.field, self.problem, self.nearest = field, problem, nearest
        hint = f"; did you mean {nearest}?" if nearest else ""
        super().__init__(f"setting {field}: {problem}{hint}")


class DestinationSettings(BaseModel):
    """Where results are sent: objects by C-STORE or STOW-RS, reports by HL7 v2 or FHIR."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    kind: Literal["dicom", "stow", "hl7", "fhir"]
    host: str | None = None
    port: Port | None = None
    ae_title: AeTitle | None = None
    url: str | None = None
    token: SecretStr | None = None
    profile: Path | None = None
    kinds: Bases = ("seg", "sr")
    segmentation: Segmentation = "BINARY"
    language: Language = "en"
    states: tuple[StateObject, ...] = ("sr",)
    release: Release = Release.AT_ONCE
    research: bool = False
    commitment: Commitment = Commitment.NONE
    retract: Retract = Retract.NOTE
    archive_url: str | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    receiving_application: Annotated[str, Field(max_length=227)] = ""
    receiving_facility: Annotated[str, Field(max_length=227)] = ""
    tls_ca: Path | None = None
    imaging_selection: bool = False

    @property
    def takes_reports(self) -> bool:
        """Whether reports are sent there, not DICOM objects."""
        return self.kind in ("hl7", "fhir")

    @cached_property
    def delivery(self) -> DeliveryProfile:
        """What goes there: the profile file's word, or that of the keys here."""
        if self.profile is not None:
            return load_profile(self.profile)
        return DeliveryProfile(
            encodings=self.kinds, **{name: getattr(self, name) for name in IN_PROFILES[1:]}
        )

    @model_validator(mode="after")
    def _is_complete(self) -> DestinationSettings:
        self._refuse_keys_of_other_kinds()
        if self.kind == "hl7":
            if self.host is None or self.port is None:
                raise ValueError("an hl7 destination needs host, port")
            return self
        if self.kind == "fhir":
            if self.url is None or not self.url.startswith(("http://", "https://")):
                raise ValueError("a fhir destination needs url, beginning with http:// or https://")
            return self
        if self.kind == "dicom":
            missing = [n for n in ("host", "port", "ae_title") if getattr(self, n) is None]
            if missing:
                raise ValueError(f"a dicom destination needs {', '.join(missing)}")
            if self.url or self.token:
                raise ValueError("url and token belong to a stow destination")
        elif self.url is None or not self.url.startswith(("http://", "https://")):
            raise ValueError("a stow destination needs url, beginning with http:// or https://")
        twice = self.model_fields_set & set(IN_PROFILES)
        if self.profile is not None and twice:
            raise ValueError(f"profile says {', '.join(sorted(twice))} too; keep one of them")
        profile = self.delivery
        if profile.commitment is Commitment.N_ACTION and self.kind != "dicom":
            raise ValueError('commitment: "n_action" is for a dicom destination; use "read_back"')
        if profile.commitment is Commitment.READ_BACK and self.kind != "stow":
            raise ValueError('commitment: "read_back" is for a stow destination; use "n_action"')
        is_api = profile.retract is Retract.ARCHIVE_API
        if is_api and not (self.archive_url or "").startswith(("http://", "https://")):
            raise ValueError('retract: "archive_api" needs archive_url (http:// or https://)')
        if self.archive_url and not is_api:
            raise ValueError('archive_url: is for retract = "archive_api" only')
        assert profile.kinds, "read now: a wrong profile stops the start"
        return self

    def _refuse_keys_of_other_kinds(self) -> None:
        """Stop at a key that this kind of destination would pass over."""
        objects = {"profile", *IN_PROFILES, "archive_url"} - {"release"}
        of_kind = {
            "hl7": {"host", "port", "receiving_application", "receiving_facility", "tls_ca"},
            "fhir": {"url", "token", "imaging_selection"},
        }
        reports = of_kind["hl7"] | of_kind["fhir"]
        if self.takes_reports:
            wrong = (reports | objects | {"ae_title"}) - of_kind[self.kind]
        else:
            wrong = reports - {"host", "port", "url", "token"}
        found = sorted(self.model_fields_set & wrong)
        if found:
            raise ValueError(f"{', '.join(found)} has no meaning for a {self.kind} destination")


class ArchiveSettings(BaseModel):
    """A PACS that `clinfer fetch` asks for studies (C-FIND, then C-MOVE or C-GET)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    ae_title: AeTitle
    retrieve: Literal["move", "get"] = "move"
    issuer_of_patient_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0


class UpsReceiverSettings(BaseModel):
    """A DICOM node that takes events of the workitems that it watches (N-EVENT-REPORT)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ae_title: AeTitle
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """The service's settings; units end the names."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    data_dir: Path = Path(".clinfer")
    database_url: SecretStr | None = None
    model_repo: Path | None = None

    http_host: str = "127.0.0.1"
    http_port: Port = 8080
    allowed_hosts: tuple[str, ...] = ()
    auth: Literal["auto", "keys", "off"] = "auto"
    api_keys_file: Path | None = None
    public_url: Annotated[str, Field(pattern=r"^https?://[^/?#\s]+/?$")] | None = None
    oidc_issuer: Annotated[str, Field(pattern=r"^https?://[^?#\s]+$")] | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_label: Annotated[str, Field(min_length=1, max_length=40)] = "the hospital's account"
    oidc_roles_claim: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,120}$")] = "groups"
    oidc_roles: dict[str, tuple[Role, ...]] = {}

    dicom_host: str = "127.0.0.1"
    dicom_port: Port = 11112
    dicom_ae_title: AeTitle = "CLINFER"
    dicom_calling_ae_titles: tuple[AeTitle, ...] = ()
    dicom_max_associations: Annotated[int, Field(ge=1, le=1000)] = 64
    watch_dir: Path | None = None

    hl7_host: str = "127.0.0.1"
    hl7_port: Port | None = None
    hl7_senders: tuple[str, ...] = ()
    hl7_tls_certificate: Path | None = None
    hl7_tls_key: Path | None = None
    hl7_tls_client_ca: Path | None = None
    patient_authorities: dict[str, Authority] = Field(default_factory=dict)
    default_patient_authority: Authority | None = None
    fhir_imaging_selection: bool = False

    backend: Literal["triton", "local"] = "triton"
    triton_address: str | None = None

    ray_address: Annotated[str, Field(pattern=r"^(ray://)?[^/\s:]+:\d{1,5}$")] | None = None
    ray_token: SecretStr | None = None
    ray_object_store_mib: Annotated[int, Field(ge=128)] = 2048
    batch_source_user: str | None = None
    batch_source_password: SecretStr | None = None
    batch_source_token: SecretStr | None = None
    engine_cache_dir: Path | None = None
    memory_budget_mib: Annotated[int, Field(ge=256)] | None = None

    quiet_period_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    incomplete_wait_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    stat_workers: Annotated[int, Field(ge=0, le=64)] = 1
    max_wait_s: Annotated[float, Field(gt=0, le=604_800)] = 3600.0
    model_memory_mib: Annotated[int, Field(ge=256)] | None = None
    job_max_tries: Annotated[int, Field(ge=1, le=20)] = 5
    stop_timeout_s: Annotated[float, Field(ge=1, le=600)] = 20.0
    destinations: tuple[DestinationSettings, ...] = ()
    archives: tuple[ArchiveSettings, ...] = ()
    ups_receivers: tuple[UpsReceiverSettings, ...] = ()
    reading_promoting_models: tuple[str, ...] = ()

    max_upload_mib: Annotated[int, Field(ge=1)] = 2048
    max_json_kib: Annotated[int, Field(ge=1)] = 1024
    max_instance_mib: Annotated[int, Field(ge=1)] = 2048
    max_archive_entries: Annotated[int, Field(ge=1)] = 20_000
    max_archive_ratio: Annotated[int, Field(ge=1)] = 200
    max_unpacked_mib: Annotated[int, Field(ge=1)] = 8192
    max_http_connections: Annotated[int, Field(ge=1)] = 256
    min_free_disk_mib: Annotated[int, Field(ge=0)] = 1024
    view_cache_mib: Annotated[int, Field(ge=64)] = 1024
    read_ahead: bool = True

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources; `load_settings` adds the TOML file as the last."""
        return (init_settings, env_settings)

    @model_validator(mode="after")
    def _is_safe(self) -> Settings:
        if not self.is_auth_on and not is_loopback(self.http_host):
            raise ValueError(
                f"auth: keys may be off only on loopback; http_host {self.http_host} is reachable"
                " from outside (use auth = keys and `clinfer keys create NAME`)"
            )
        if not is_loopback(self.dicom_host) and not self.dicom_calling_ae_titles:
            raise ValueError(
                f"dicom_calling_ae_titles: dicom_host {self.dicom_host} is reachable from outside,"
                " so the AE titles that may send must be named"
            )
        if (self.hl7_tls_certificate is None) != (self.hl7_tls_key is None):
            raise ValueError("hl7_tls_key: goes with hl7_tls_certificate, and neither alone")
        if self.hl7_tls_client_ca is not None and self.hl7_tls_certificate is None:
            raise ValueError("hl7_tls_client_ca: needs hl7_tls_certificate and hl7_tls_key")
        if (
            self.hl7_port is not None
            and not is_loopback(self.hl7_host)
            and not (self.hl7_senders or self.hl7_tls_client_ca)
        ):
            raise ValueError(
                f"hl7_senders: hl7_host {self.hl7_host} is reachable from outside, so the"
                " applications that may send must be named, or show a certificate"
                " (hl7_tls_client_ca)"
            )
        if self.backend == "local" and self.triton_address is not None:
            raise ValueError("triton_address: has no meaning with backend = local")
        if self.model_memory_mib is not None and (self.backend == "local" or self.triton_address):
            raise ValueError("model_memory_mib: is kept by the embedded Triton only")
        if (self.ray_address is None) != (self.ray_token is None):
            raise ValueError("ray_token: goes with ray_address, and neither without the other")
        if (self.batch_source_user is None) != (self.batch_source_password is None):
            raise ValueError("batch_source_password: goes with batch_source_user")
        if self.batch_source_user is not None and self.batch_source_token is not None:
            raise ValueError("batch_source_token: give it or a user, not both")
        self._check_oidc()
        for destination in self.destinations:
            if self.backend != "local" and destination.delivery.needs_probabilities:
                raise ValueError(
                    f"destinations: {destination.name} takes probabilities (pmap or FRACTIONAL),"
                    " which only backend = local gives"
                )
        names = [destination.name for destination in self.destinations]
        if len(set(names)) < len(names):
            raise ValueError("destinations: two have the same name")
        if len({archive.name for archive in self.archives}) < len(self.archives):
            raise ValueError("archives: two have the same name")
        return self

    def _check_oidc(self) -> None:
        if self.oidc_issuer is None:
            return
        needed = {
            "oidc_client_id": self.oidc_client_id,
            "oidc_client_secret": self.oidc_client_secret,
            "public_url": self.public_url,
            "oidc_roles": self.oidc_roles,
        }
        for name, value in needed.items():
            if not value:
                raise ValueError(f"{name}: is needed with oidc_issuer")
        host = urlsplit(self.oidc_issuer).hostname or ""
        if not self.oidc_issuer.startswith("https://") and not is_loopback(host):
            raise ValueError("oidc_issuer: is https, but on this machine's own address")
        given = {role for roles in self.oidc_roles.values() for role in roles}
        if given & CONFINED_ROLES:
            raise ValueError(
                "oidc_roles: a patient or caregiver needs the patients to be named, which only"
                " `clinfer people add` does"
            )

    @property
    def is_auth_on(self) -> bool:
        """Whether HTTP asks for an API key: always beyond loopback, by choice on it."""
        return self.auth == "keys" or (self.auth == "auto" and not is_loopback(self.http_host))

    @property
    def keys_path(self) -> Path:
        """Where the hashed API keys are."""
        return self.api_keys_file or self.data_dir / "api_keys.json"


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(
    options: Mapping[str, Any] | None = None, *, settings_file: Path | None = None
) -> Settings:
    """Read the settings once; options that are None are left to the other sources.

    Raises
    ------
    SettingsError
        A variable, key or value is not one that exists; the nearest name is given.
    """
    _refuse_unknown_variables()
    path = settings_file or _file_from_environment()
    given = {name: value for name, value in (options or {}).items() if value is not None}
    if path is not None and not path.is_file():
        raise SettingsError(field="settings_file", problem=f"there is no file {path}")
    try:
        return _settings_class(path)(**given)
    except ValidationError as error:
        raise _named(error) from error
    except ValueError as error:  # TOML syntax, or a variable that is no JSON
        raise SettingsError(field=str(path or ENV_PREFIX), problem=str(error)) from error


def _settings_class(path: Path | None) -> type[Settings]:
    """Return `Settings` that reads this TOML file last."""
    if path is None:
        return Settings

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path))

    return FromFile


def _file_from_environment() -> Path | None:
    path = os.environ.get(SETTINGS_FILE_VARIABLE)
    return Path(path) if path else None


def _refuse_unknown_variables() -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    for variable in sorted(os.environ):
        if variable.upper().startswith(ENV_PREFIX) and variable.upper() not in known:
            raise SettingsError(
                field=variable, problem="no such setting", nearest=_nearest(variable.upper(), known)
            )


def _named(error: ValidationError) -> SettingsError:
    """Turn pydantic's first complaint into ours, without the value (it may be a secret)."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = [str(part) for part in first["loc"]]
    message = first["msg"].removeprefix("Value error, ")
    if not path:
        field, _, problem = message.partition(": ")
        return SettingsError(field=field, problem=problem or message)
    if first["type"] == "extra_forbidden":
        inner = ArchiveSettings if path[0] == "archives" else DestinationSettings
        model: type[BaseModel] = Settings if len(path) == 1 else inner
        return SettingsError(
            field=".".join(path),
            problem="no such setting",
            nearest=_nearest(path[-1], set(model.model_fields)),
        )
    return SettingsError(field=".".join(path), problem=message)


def _nearest(name: str, known: set[str] | frozenset[str]) -> str | None:
    found = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return found[0] if found else None

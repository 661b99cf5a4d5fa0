"""A destination's profile: what is sent there, and what is refused with a word that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference.bootstrap import encodings_for, make_destination
from inference.domain.encoding import ENCODINGS, files_of, planned
from inference.profiles import load_profile
from inference.settings import SettingsError, load_settings

STOW = {"name": "pacs", "kind": "stow", "url": "http://127.0.0.1:1"}


def profile(folder: Path, text: str) -> Path:
    path = folder / "pacs.toml"
    path.write_text(text, encoding="utf-8")
    return path


def destination(**keys: Any) -> dict[str, Any]:
    return {"destinations": [STOW | keys]}


def test_a_profile_file_chooses_kinds_encoding_and_language_in_sending_order(
    tmp_path: Path,
) -> None:
    path = profile(
        tmp_path,
        'encodings = ["pdf", "sc", "sr", "seg", "rtstruct"]\n'
        'segmentation = "LABELMAP"\nlanguage = "zh"\n',
    )
    settings = load_settings(destination(profile=path))
    made = make_destination(settings.destinations[0], settings)
    objects = ("seg_labelmap", "sr_labelmap", "sc_zh", "rtstruct", "pdf_zh")
    assert made.kinds == (*objects, "change_sr", "state_sr_zh")
    assert set(encodings_for(settings)) == set(objects)


def test_without_a_profile_a_destination_takes_seg_and_sr() -> None:
    settings = load_settings(destination())
    assert settings.destinations[0].delivery.kinds == ("seg", "sr")


def test_a_profile_says_when_and_how_it_is_taken_back(tmp_path: Path) -> None:
    path = profile(
        tmp_path,
        'states = ["sc", "sr"]\nrelease = "after sign-off"\nresearch = true\n'
        'commitment = "read_back"\nretract = "archive_api"\n',
    )
    settings = load_settings(destination(profile=path, archive_url="http://127.0.0.1:8042"))
    made = make_destination(settings.destinations[0], settings)
    assert made.kinds == ("seg", "sr", "change_sr", "state_sr", "state_sc")
    assert (made.release.value, made.is_research) == ("after sign-off", True)
    assert (made.commitment.value, made.retract.value) == ("read_back", "archive_api")
    assert made.archive_url == "http://127.0.0.1:8042"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"release": "later"}, "release"),
        ({"commitment": "n_action"}, "read_back"),
        ({"retract": "archive_api"}, "needs archive_url"),
        ({"archive_url": "http://x"}, "archive_api"),
        ({"states": ["pdf"]}, "states"),
    ],
)
def test_a_rule_that_does_not_fit_stops_the_start(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(destination(**keys))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('encodings = ["seg", "gspss"]', "encodings.1"),
        ('encodings = ["sr"]', "seg"),
        ("encodings = []", "encodings"),
        ('encodings = ["seg", "seg"]', "twice"),
        ('language = "fr"', "language"),
        ('segmentation = "binary"', "segmentation"),
        ('colour = "red"', "colour"),
        ("encodings = [", "pacs.toml"),
    ],
)
def test_a_wrong_profile_stops_the_start_and_names_the_field(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        load_profile(profile(tmp_path, text))
    with pytest.raises(SettingsError) as caught:
        load_settings(destination(profile=tmp_path / "pacs.toml"))
    assert words in str(caught.value)


def test_a_profile_that_is_not_there_or_is_contradicted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no file"):
        load_settings(destination(profile=tmp_path / "none.toml"))
    path = profile(tmp_path, 'encodings = ["seg"]')
    with pytest.raises(SettingsError, match="kinds"):
        load_settings(destination(profile=path, kinds=["seg", "sr"]))


@pytest.mark.parametrize("keys", [{"kinds": ["pmap"]}, {"segmentation": "FRACTIONAL"}])
def test_probabilities_need_the_backend_that_gives_them(keys: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="probabilities"):
        load_settings(destination(**keys))
    assert load_settings(destination(**keys) | {"backend": "local"}).destinations


def test_a_report_is_planned_after_the_segmentation_it_points_at() -> None:
    plan = [encoding.name for encoding in planned(["pdf_zh", "sr_fractional", "sc"])]
    assert plan == ["seg", "seg_fractional", "sr", "sr_fractional", "sc", "pdf_zh"]
    with pytest.raises(KeyError):
        planned(["segg"])
    assert len(ENCODINGS) == 15


def test_several_instances_of_a_kind_are_found_by_it_and_not_by_its_neighbours() -> None:
    names = ["sc_zh-01", "sc-02", "sc-01", "seg", "seg_labelmap", "sheet"]
    assert list(files_of("sc", names)) == ["sc-01", "sc-02"]
    assert list(files_of("seg", names)) == ["seg"]
    assert list(files_of("sc_zh", names)) == ["sc_zh-01"]
    assert list(files_of("ko", names)) == []

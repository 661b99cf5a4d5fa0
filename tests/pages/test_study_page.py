"""What a person sees of a study: the overlay in its place, on the right side, in its colour."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

from tests.builders.service import LEFT_COLOR, RIGHT_COLOR
from tests.builders.two_boxes import LEFT_BOX, RIGHT_BOX, SHAPE
from tests.pages.conftest import Shown

N_SLICES, N_ROWS, N_COLUMNS = SHAPE
BOTH_SLICE = N_SLICES - 1 - 7
"""Slice on the screen (head first) of native slice 7, where both boxes are."""


def middle(box: tuple[slice, slice, slice], axis: int) -> float:
    return (box[axis].start + box[axis].stop) / 2


def open_study(page: Page, shown: Shown) -> None:
    page.goto(shown.study_url)
    page.wait_for_selector("#stage[data-shown]")


def go_to(page: Page, plane: str, index: int) -> None:
    page.click(f"[data-plane={plane}]")
    page.fill("#slice", str(index))
    page.wait_for_selector(f'#stage[data-shown="{plane}/{index}"]')


def stage_pixels(page: Page) -> NDArray[np.uint8]:
    """The stage as a person sees it, in CSS pixels."""
    return np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB"))


def at(page: Page, pixels: NDArray[np.uint8], row: float, column: float, height: int, width: int):
    """Colour at a (row, column) of the slice, by where the picture says that it lies."""
    box = json.loads(page.locator("#stage").get_attribute("data-box") or "")
    x = box["left"] + column / width * box["width"]
    y = box["top"] + row / height * box["height"]
    return tuple(int(value) for value in pixels[round(y), round(x)])


def blended(grey: int, color: tuple[int, int, int], opacity: float) -> tuple[float, ...]:
    return tuple(grey * (1 - opacity) + part * opacity for part in color)


def set_window(page: Page, center: int, width: int) -> None:
    page.fill("#center", str(center))
    page.fill("#width", str(width))
    page.press("#width", "Tab")


def test_each_box_has_its_colour_on_its_side(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    go_to(page, "axial", BOTH_SLICE)
    set_window(page, 5000, 100)  # everything black, so colours are the overlay's alone
    page.fill("#opacity", "100")
    page.wait_for_timeout(300)
    pixels = stage_pixels(page)
    left = at(page, pixels, middle(LEFT_BOX, 1), middle(LEFT_BOX, 2), N_ROWS, N_COLUMNS)
    right = at(page, pixels, middle(RIGHT_BOX, 1), middle(RIGHT_BOX, 2), N_ROWS, N_COLUMNS)
    assert left == pytest.approx(LEFT_COLOR, abs=2)
    assert right == pytest.approx(RIGHT_COLOR, abs=2)
    # The patient's left is at the right of the screen, and the letters say so.
    columns_of_left = np.argwhere(np.abs(pixels.astype(int) - LEFT_COLOR).max(axis=2) < 3)[:, 1]
    columns_of_right = np.argwhere(np.abs(pixels.astype(int) - RIGHT_COLOR).max(axis=2) < 3)[:, 1]
    assert columns_of_left.min() > columns_of_right.max()
    assert page.inner_text("[data-edge=left]") == "R"
    assert page.inner_text("[data-edge=right]") == "L"
    assert page.inner_text("[data-edge=top]") == "A"
    assert at(page, pixels, 2, 2, N_ROWS, N_COLUMNS) == (0, 0, 0)


def test_opacity_blends_overlay_and_image(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    go_to(page, "axial", BOTH_SLICE)
    set_window(page, 300, 401)  # the left box, at 300 HU, is mid-grey
    page.fill("#opacity", "40")
    page.wait_for_timeout(300)
    pixels = stage_pixels(page)
    found = at(page, pixels, middle(LEFT_BOX, 1), middle(LEFT_BOX, 2), N_ROWS, N_COLUMNS)
    assert found == pytest.approx(blended(128, LEFT_COLOR, 0.4), abs=3)


def test_hiding_a_segment_and_the_overlay(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    go_to(page, "axial", BOTH_SLICE)
    set_window(page, 5000, 100)
    page.fill("#opacity", "100")
    page.uncheck('tr[data-label="1"] .segment-shown')
    page.wait_for_timeout(200)
    pixels = stage_pixels(page)
    left = (middle(LEFT_BOX, 1), middle(LEFT_BOX, 2), N_ROWS, N_COLUMNS)
    right = (middle(RIGHT_BOX, 1), middle(RIGHT_BOX, 2), N_ROWS, N_COLUMNS)
    assert at(page, pixels, *left) == (0, 0, 0)
    assert at(page, pixels, *right) == pytest.approx(RIGHT_COLOR, abs=2)
    page.focus("#stage")
    page.keyboard.press("o")
    page.wait_for_timeout(200)
    assert at(page, stage_pixels(page), *right) == (0, 0, 0)
    assert not page.is_checked("#overlay")


def test_outlines_leave_the_inside_free(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    go_to(page, "axial", BOTH_SLICE)
    set_window(page, 5000, 100)
    page.fill("#opacity", "100")
    page.click("[data-style=outline]")
    page.wait_for_timeout(200)
    pixels = stage_pixels(page)
    inside = at(page, pixels, middle(RIGHT_BOX, 1), middle(RIGHT_BOX, 2), N_ROWS, N_COLUMNS)
    edge = at(page, pixels, RIGHT_BOX[1].start + 0.5, middle(RIGHT_BOX, 2), N_ROWS, N_COLUMNS)
    assert inside == (0, 0, 0)
    assert edge == pytest.approx(RIGHT_COLOR, abs=2)


@pytest.mark.parametrize(
    ("plane", "index", "row", "column", "height", "width", "letters"),
    [
        (
            "coronal",
            7,
            N_SLICES - middle(LEFT_BOX, 0),
            middle(LEFT_BOX, 2),
            N_SLICES,
            N_COLUMNS,
            ("S", "I", "R", "L"),
        ),
        (
            "sagittal",
            18,
            N_SLICES - middle(LEFT_BOX, 0),
            middle(LEFT_BOX, 1),
            N_SLICES,
            N_ROWS,
            ("S", "I", "A", "P"),
        ),
    ],
)
def test_reformatted_planes_show_the_box_where_it_is(
    page: Page, shown: Shown, plane, index, row, column, height, width, letters
) -> None:
    open_study(page, shown)
    go_to(page, plane, index)
    set_window(page, 5000, 100)
    page.fill("#opacity", "100")
    page.wait_for_timeout(300)
    pixels = stage_pixels(page)
    assert at(page, pixels, row, column, height, width) == pytest.approx(LEFT_COLOR, abs=2)
    mirrored = at(page, pixels, row, width - column, height, width)
    assert mirrored == (0, 0, 0)
    shown_letters = tuple(
        page.inner_text(f"[data-edge={edge}]") for edge in ("top", "bottom", "left", "right")
    )
    assert shown_letters == letters


def test_wheel_keys_and_slider_go_through_the_slices(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    go_to(page, "axial", 3)
    assert "4 / 14" in page.inner_text("#corner-slice")
    page.hover("#stage")
    page.mouse.wheel(0, 120)
    page.wait_for_selector('#stage[data-shown="axial/4"]')
    page.focus("#stage")
    page.keyboard.press("ArrowUp")
    page.wait_for_selector('#stage[data-shown="axial/3"]')
    page.keyboard.press("End")
    page.wait_for_selector('#stage[data-shown="axial/13"]')
    page.keyboard.press("ArrowDown")  # there is no further one
    page.keyboard.press("Home")
    page.wait_for_selector('#stage[data-shown="axial/0"]')
    assert page.get_attribute("#slice", "aria-valuetext") == "slice 1 of 14"


def test_a_segments_name_leads_to_where_it_is_largest(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    go_to(page, "axial", 13)
    page.click('tr[data-label="2"] .segment-go')
    # Native slices 6 to 11 hold the right box; the first of them from the head is 13 - 11.
    page.wait_for_selector('#stage[data-shown="axial/2"]')


def test_dragging_changes_the_window_and_presets_bring_it_back(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    before = page.input_value("#width")
    box = page.locator("#stage").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 10, steps=4)
    page.mouse.up()
    assert float(page.input_value("#width")) > float(before)
    assert page.input_value("#preset") == "own"
    page.select_option("#preset", label="Bone")
    assert (page.input_value("#center"), page.input_value("#width")) == ("400", "1800")
    assert "C 400" in page.inner_text("#corner-window")


def test_the_place_and_segment_under_the_pointer_are_named(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    go_to(page, "axial", BOTH_SLICE)
    place = json.loads(page.locator("#stage").get_attribute("data-box") or "")
    stage = page.locator("#stage").bounding_box()
    assert stage is not None
    x = stage["x"] + place["left"] + 19.5 / N_COLUMNS * place["width"]
    y = stage["y"] + place["top"] + 8.5 / N_ROWS * place["height"]
    page.mouse.move(x, y)
    # Column 19, row 8, native slice 7: -23 + 19 * 2, -31 + 8 * 1.5, 105 + 7 * 4.
    assert page.inner_text("#corner-point") == "Left box\nL 15.0 A 19.0 S 133.0 mm"


def test_figures_card_and_files_stand_beside_the_images(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    panel = page.inner_text(".panel")
    for text in ("Left box", "Right box", "300", "700", "Where the time went", "About the model"):
        assert text in panel
    assert "Shows where two boxes lie" in panel
    assert "a person; the model only proposes" in panel
    assert "Research model." in page.inner_text(".banner >> nth=0")
    with page.expect_download() as download:
        page.click('a.button:has-text("SEG")')
    assert download.value.suggested_filename.endswith(".seg.dcm")


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_sticks_out_on_any_screen(page: Page, shown: Shown, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for url in (shown.study_url, shown.service.http_url, f"{shown.service.http_url}/models"):
        page.goto(url)
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0, url


def test_every_control_has_a_name(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, a, [role]')]
            .filter(e => e.type !== 'hidden')
            .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim()
                || e.closest('label')?.textContent.trim() || e.labels?.length))
            .map(e => e.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_every_segment_has_its_colour_where_it_is_in_every_plane(
    page: Page, shown: Shown, plane: str
) -> None:
    open_study(page, shown)
    page.wait_for_selector('#stage[data-labels="all"]')  # planes are cut in the page from here on
    set_window(page, 5000, 100)
    page.fill("#opacity", "100")
    for box, color in ((LEFT_BOX, LEFT_COLOR), (RIGHT_BOX, RIGHT_COLOR)):
        z, y, x = (middle(box, axis) for axis in range(3))
        # On the screen: slices from the head, rows to the back, columns to the patient's left.
        index, row, column, height, width = {
            "axial": (N_SLICES - 1 - int(z), y, x, N_ROWS, N_COLUMNS),
            "coronal": (int(y), N_SLICES - z, x, N_SLICES, N_COLUMNS),
            "sagittal": (int(x), N_SLICES - z, y, N_SLICES, N_ROWS),
        }[plane]
        go_to(page, plane, index)
        page.wait_for_timeout(100)
        pixels = stage_pixels(page)
        assert at(page, pixels, row, column, height, width) == pytest.approx(color, abs=2)
        mirrored = at(page, pixels, height - row, width - column, height, width)
        assert mirrored != pytest.approx(color, abs=20)
        seen = np.argwhere(np.abs(pixels.astype(int) - color).max(axis=2) < 3)
        drawn = json.loads(page.locator("#stage").get_attribute("data-box") or "")
        found = (seen.min(axis=0), seen.max(axis=0) + 1)
        rows = {"axial": box[1], "coronal": box[0], "sagittal": box[0]}[plane]
        columns = {"axial": box[2], "coronal": box[2], "sagittal": box[1]}[plane]
        top = rows.start if plane == "axial" else N_SLICES - rows.stop
        assert found[0][0] == pytest.approx(drawn["top"] + top / height * drawn["height"], abs=2)
        assert found[0][1] == pytest.approx(
            drawn["left"] + columns.start / width * drawn["width"], abs=2
        )


def test_searching_and_colouring_a_segment_ask_the_service_nothing(
    page: Page, shown: Shown
) -> None:
    open_study(page, shown)
    page.wait_for_selector('#stage[data-labels="all"]')
    go_to(page, "axial", BOTH_SLICE)
    set_window(page, 5000, 100)
    page.fill("#opacity", "100")
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.fill("#segment-search", "right")
    assert page.inner_text("#segment-count") == "1 / 2"
    assert page.locator("tr[data-label]:visible").count() == 1
    page.click("#hide-all")  # of the listed ones
    page.fill("#segment-search", "")
    page.evaluate(
        """() => { const input = document.querySelector('tr[data-label="1"] .segment-color');
            input.value = '#00ff40'; input.dispatchEvent(new Event('input')); }"""
    )
    page.wait_for_timeout(150)
    pixels = stage_pixels(page)
    left = (middle(LEFT_BOX, 1), middle(LEFT_BOX, 2), N_ROWS, N_COLUMNS)
    right = (middle(RIGHT_BOX, 1), middle(RIGHT_BOX, 2), N_ROWS, N_COLUMNS)
    assert at(page, pixels, *left) == (0, 255, 64)
    assert at(page, pixels, *right) == (0, 0, 0)
    assert asked == []


def test_one_key_copies_the_findings(page: Page, shown: Shown) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_study(page, shown)
    page.focus("#stage")
    page.keyboard.press("c")
    page.locator("#review-message", has_text="copied").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    assert "Left box: volume 4.03 ml, mean 300 ± 0 HU" in text
    assert "measured by AI, to be confirmed" in text
    page.keyboard.press("?")
    assert page.is_visible("#help-dialog")


def test_a_click_moves_the_point_of_all_three_planes(page: Page, shown: Shown) -> None:
    open_study(page, shown)
    page.wait_for_selector('#stage[data-labels="all"]')
    go_to(page, "axial", BOTH_SLICE)
    page.focus("#stage")
    page.keyboard.press("m")
    page.wait_for_selector(".other-plane[data-shown]")
    box = json.loads(page.locator("#stage").get_attribute("data-box") or "")
    row, column = 8, 19  # inside the left box
    page.locator("#stage").click(
        position={
            "x": box["left"] + (column + 0.5) / N_COLUMNS * box["width"],
            "y": box["top"] + (row + 0.5) / N_ROWS * box["height"],
        }
    )
    page.wait_for_selector(f'.other-plane[data-shown="coronal/{row}"]')
    page.wait_for_selector(f'.other-plane[data-shown="sagittal/{column}"]')
    # The box is in the middle of both other planes, in its colour.
    page.fill("#opacity", "100")
    set_window(page, 5000, 100)
    page.wait_for_timeout(200)
    for number in (0, 1):
        stage = page.locator(".other-plane").nth(number)
        pixels = np.asarray(Image.open(io.BytesIO(stage.screenshot())).convert("RGB"))
        assert (np.abs(pixels.astype(int) - LEFT_COLOR).max(axis=2) < 3).sum() > 50

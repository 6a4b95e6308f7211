"""The page in a real browser: filters, keyboard, a person opened and closed; no errors, no network, no markup."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facesyn.reporting import page as page_module
from facesyn.reporting.page import write_report

from .conftest import ETHNICITIES, PEOPLE

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=["inside", "beside"])
def page(
    browser: Any, run_folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The report opened from its file, with its pictures inside or beside; what goes wrong fails the test."""
    if request.param == "beside":
        monkeypatch.setattr(page_module, "INLINE_LIMIT", 0)
    write_report(run_folder)
    opened = browser.new_page(viewport={"width": 1000, "height": 900})
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("requestfailed", lambda failed: wrong.append(failed.url))
    opened.on(
        "request",
        lambda asked: None if asked.url.startswith(("file:", "blob:", "data:")) else wrong.append(asked.url),
    )
    opened.goto((run_folder / "report.html").as_uri())
    opened.wait_for_selector("html[data-ready]")
    yield opened
    assert wrong == []
    assert opened.title() == "small – facesyn report"
    opened.close()


def until(page: Any, expression: str) -> None:
    """Wait for an expression to hold; the page's own policy forbids the browser's way of waiting for one."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(expression)


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.querySelector('small span')?.textContent"))


def test_the_sheet_is_filtered_by_cell(page: Any) -> None:
    assert page.inner_text("#count") == f"{PEOPLE - 1} identities"
    page.select_option("[name=ethnicity]", ETHNICITIES[0])
    page.select_option("[name=gender]", "female")
    page.select_option("[name=age_interval]", "30-60")
    shown = page.locator(".card")
    assert page.inner_text("#count") == f"{shown.count()} of {PEOPLE - 1} identities"
    for label in shown.evaluate_all("cards => cards.map(card => card.getAttribute('aria-label'))"):
        assert "African, female, 30-60" in label
    page.click("text=Show all")
    page.fill("[name=identity]", "00003")
    until(page, "document.querySelectorAll('.card').length === 11")  # 000003 and 000030 to 000039
    page.fill("[name=identity]", "nobody")
    page.wait_for_selector("text=Nobody in this dataset fits.")


def test_a_cell_of_the_balance_shows_its_people(page: Any) -> None:
    page.locator(".cell").nth(5).click()
    until(page, "document.querySelector('[name=gender]').value === 'female'")
    assert page.input_value("[name=ethnicity]") == ETHNICITIES[1]
    assert " of " in page.inner_text("#count")
    until(page, "document.activeElement.classList.contains('card')")


def test_a_person_is_opened_and_closed_by_keyboard(page: Any) -> None:
    page.focus(".card")
    columns = int(page.get_attribute("#grid", "aria-colcount"))
    page.keyboard.press("ArrowRight")
    assert focused(page) == "000001"
    page.keyboard.press("ArrowDown")
    assert focused(page) == f"{1 + columns + (1 + columns >= 7):06d}"  # person 7 has no source
    page.keyboard.press("Control+End")
    assert focused(page) == f"{PEOPLE - 1:06d}"
    page.keyboard.press("Control+Home")
    page.keyboard.press("Enter")
    assert page.inner_text("#person-title") == "000000"
    assert page.locator("#images li").count() == 3
    assert page.locator("#facts dd").nth(2).inner_text() == str(2**62)
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#person-title") == "000001"
    assert page.inner_text("#images-title") == "31 of 31 images, the first 24 shown"
    page.keyboard.press("Escape")
    assert not page.evaluate("document.querySelector('dialog').open")
    until(page, "document.activeElement.querySelector('small span')?.textContent === '000001'")
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.classList.contains('card')")  # one stop for the whole sheet


def test_pictures_are_drawn(page: Any) -> None:
    """The first tile has the colours of the first source, in the sheet and in the dialog."""
    page.click(".card")
    until(page, "getComputedStyle(document.querySelector('#source')).backgroundImage !== 'none'")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(200)
    assert len(set(page.locator("#source").screenshot())) > 50
    loaded = page.evaluate(
        """async () => {
          const address = getComputedStyle(document.querySelector('#source')).backgroundImage.slice(5, -2);
          const image = new Image(); image.src = address; await image.decode(); return image.naturalWidth;
        }"""
    )
    assert loaded == 96 * 4


def test_the_theme_can_be_chosen_and_text_is_inert(page: Any) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    assert page.evaluate(background) == light
    page.click("#theme")
    assert page.evaluate(background) != light and page.inner_text("#theme") == "Theme: dark"
    assert page.locator("script").count() == 3


def test_every_control_has_a_name_and_the_page_its_landmarks(page: Any) -> None:
    for role in ("banner", "navigation", "main", "contentinfo", "search", "grid"):
        assert page.get_by_role(role).count() == 1, role
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, [role=region], table:not(:has(caption))')]
          .filter((node) => !(node.textContent.trim() || node.ariaLabel || node.getAttribute('aria-labelledby')
            || node.labels?.length))
          .length"""
    )
    assert unnamed == 0
    levels = page.locator("main h1, main h2, main h3, header.top h1").evaluate_all("all => all.map(h => +h.tagName[1])")
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))

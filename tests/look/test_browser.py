"""The page in a real browser: upload, ask and compare, with the keyboard alone, on a narrow screen, light and dark."""

import os
import shutil
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")]
playwright = pytest.importorskip("playwright.sync_api")

# The lowest contrast of a text to what is behind it, and that text; WCAG 2.2 asks for 4.5.
LOWEST_CONTRAST = """() => {
  const values = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = values(color).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((values(color)[3] ?? 1) > 0) return color;
    }
  };
  let lowest = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (!text || element.disabled || !element.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < lowest[0]) lowest = [(a + 0.05) / (b + 0.05), text];
  }
  return lowest;
}"""


@pytest.fixture(scope="module")
def address():
    """Where `fcot look` says that the page is; SIGTERM ends it."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fcot", "look", "--port", "0"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line.startswith("Open http://127.0.0.1:"), process.stderr.read()
    yield line.split()[1]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors, errors


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Return a function that opens the page; no error may come, and no request may leave this machine."""
    contexts, requests, errors = [], [], []

    def opened(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#choice input", state="attached")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert requests and all(url.startswith(address) for url in requests), requests
    assert errors == []


def ask_about_form(page, question="City?"):
    """Upload a page and ask about it."""
    page.get_by_label("A picture of a page").set_input_files(ROOT / ".github/images/form.png")
    page.get_by_role("heading", name="What each model reads").wait_for()
    page.get_by_label("Question about the page").fill(question)
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("region", name=question).wait_for()


def test_a_page_is_uploaded_asked_about_and_answers_are_compared(visit):
    page = visit()
    ask_about_form(page, "Country?")  # which this page does not say
    assert [page.locator("#views .big").nth(i).inner_text().splitlines()[0] for i in range(2)] == [
        "48 visual tokens",
        "24 visual tokens",
    ]
    assert page.locator("#views .whole .tile").count() == 4 and page.locator("#views .small .tile").count() == 2
    assert page.get_by_role("deletion").last.text_content().strip() == "[lacking: Chanpatia]"
    assert page.get_by_role("insertion").last.text_content().strip() == "[added: 85]"
    for words in (
        "24 of 53 tokens read",
        "GFLOP (−11\u00a0%)",
        "Where it looked: 34\u00a0% of its attention was on the page",
    ):
        assert page.get_by_text(words).is_visible(), words
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 0 && image.alt)"
    page.wait_for_load_state("networkidle")
    assert page.locator("img").evaluate_all(loaded) and page.locator("img").count() == 8
    assert page.get_by_role("status").inner_text() == "teacher: “Chanpatia”. student, not the same: “85”."


def test_the_keyboard_is_enough(visit):
    page = visit()
    page.on("filechooser", lambda _: None)  # asked for no earlier than at the key, it can be missed

    def tab_to(selector):
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.locator(f"{selector}:focus-visible").count():
                assert page.locator(selector).evaluate("it => parseFloat(getComputedStyle(it).outlineWidth)") >= 3
                return
        raise AssertionError(selector)

    tab_to(".skip")
    tab_to("#file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(ROOT / ".github/images/form.png")
    page.get_by_text("You can ask now.").wait_for()
    tab_to("#question")
    page.keyboard.type("Code?")
    tab_to("#choice input[value=teacher]")
    page.keyboard.press("Space")  # only the student answers
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.get_by_text("student: “IN”.").wait_for()
    assert page.locator("#answers .card").count() == 1
    page.locator("#file").focus()
    tab_to("#example")
    page.keyboard.press("Enter")
    page.get_by_text("You can ask now.").wait_for()
    assert page.locator("#answers .card").count() == 0  # they were about another page


@pytest.mark.parametrize(("scheme", "width"), [*product(["light", "dark"], [360, 1100])])
def test_all_is_readable_without_scrolling_sideways(visit, scheme, width):
    page = visit(viewport={"width": width, "height": 740}, color_scheme=scheme)
    ask_about_form(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    contrast, text = page.evaluate(LOWEST_CONTRAST)
    assert contrast >= 4.5, text
    wide = "its => its.filter(it => it.getBoundingClientRect().right > innerWidth).map(it => it.outerHTML)"
    assert page.locator("main *:not(.hidden)").evaluate_all(wide) == []


def test_what_is_wrong_is_told(visit, tmp_path):
    page = visit()
    alert = page.get_by_role("alert")
    (tmp_path / "a.txt").write_text("text")
    page.get_by_label("A picture of a page").set_input_files(tmp_path / "a.txt")
    assert alert.inner_text() == "This file is no picture that is read here. Give a PNG, JPEG or WebP file."
    ask_about_form(page)
    assert alert.inner_text() == ""
    page.get_by_label("student", exact=True).uncheck()
    page.get_by_label("teacher", exact=True).uncheck()
    page.get_by_role("button", name="Ask").click()
    assert alert.inner_text() == "No model is chosen. Choose one or more."


def test_an_answer_can_be_stopped_and_nothing_turns_for_who_wants_less_motion(visit):
    page = visit(reduced_motion="reduce")
    page.get_by_role("button", name="Take the example").click()
    page.get_by_text("You can ask now.").wait_for()
    page.get_by_label("Question about the page").fill("Read the text.")
    page.get_by_role("button", name="Ask").click()
    turning = page.locator(".busy").evaluate("it => getComputedStyle(it, '::after').animationName")
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    assert turning == "none"
    assert page.get_by_role("button", name="Ask").is_enabled() and page.locator("#answers .card").count() == 0

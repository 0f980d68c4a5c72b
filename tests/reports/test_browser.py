"""The app in a real browser: verdict to example, lasso, address bar, and no request to anywhere else.

apt-get install chromium chromium-driver
pip install --no-deps axe-playwright-python       (for the file of axe-core in it; playwright itself is not used)
pytest -m browser tests/reports/test_browser.py
"""

import contextlib
import importlib.util
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pages import PAGES

from tamis.reports.launch import command, environment, stop
from tamis.reports.page_html import write_html

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WAIT_S = 60
STAYS = 4  # times in a row that a page must be found at rest, 0.2 s apart
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--window-size=1400,1000",
)  # fmt: skip


@contextlib.contextmanager
def served(shown):
    """The app, started as `tamis report RUN --serve` starts it."""
    with subprocess.Popen(
        command(0), env=environment(shown), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        port = next(m[1] for line in server.stdout if (m := re.search(r"http://[\w.]+:(\d+)", line)))
        yield f"http://127.0.0.1:{port}"
        stop(server)


@pytest.fixture(scope="module")
def address(finished):
    """The app of the finished run. Not to be changed."""
    with served(finished) as address:
        yield address


@pytest.fixture(scope="module")
def versions(build, tmp_path_factory):
    """The same 600 rows, once 60 and once 100 kept: the folder and the app that shows it."""
    folder = tmp_path_factory.mktemp("versions")
    for name, kept in (("first", 60), ("second", 100)):
        build(folder / name, kept=kept, read=600, items=10, requests=5, arms=("chosen",))
    with served(folder) as address:
        yield folder, address


def browser(folder, *flags):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, *flags, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


@pytest.fixture
def driver(tmp_path):
    driver = browser(tmp_path / "profile")
    yield driver
    driver.quit()


def settled(driver) -> None:
    """Wait until the page's script has ended and stays so."""
    from selenium.webdriver.support.ui import WebDriverWait

    ready = "[data-testid=stApp][data-test-script-state=notRunning]"
    for _ in range(STAYS):
        WebDriverWait(driver, WAIT_S).until(lambda d: d.find_elements("css selector", ready))
        time.sleep(0.2)


def in_sections(driver, selector: str):
    """Elements inside the shadow roots of the app's sections and map."""
    return driver.execute_script(
        "return [...document.querySelectorAll('*')].filter(e => e.shadowRoot)"
        ".flatMap(e => [...e.shadowRoot.querySelectorAll(arguments[0])])",
        selector,
    )


def until(driver, found, what: str):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, WAIT_S).until(lambda _: found(), what)


def query(driver) -> dict[str, list[str]]:
    return parse_qs(urlsplit(driver.current_url).query)


def asked_elsewhere(driver) -> set[str]:
    """Hosts other than this machine that the browser sent anything to."""
    hosts = set()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = urlsplit(message["params"]["request"]["url"])
            if url.scheme in ("http", "https", "ws", "wss"):
                hosts.add(url.hostname)
    return hosts - {"127.0.0.1", "localhost"}


def test_from_the_verdict_to_a_raw_example_in_three_clicks_and_back_by_its_address(driver, address):
    driver.get(address)
    settled(driver)
    until(driver, lambda: any("Do not ship" in e.text for e in in_sections(driver, ".banner")), "verdict")
    driver.find_element("link text", "Compare").click()
    until(driver, lambda: in_sections(driver, "[data-key=fixed]"), "the two-by-two table")
    in_sections(driver, "[data-key=fixed]")[0].click()
    until(driver, lambda: "/examples" in driver.current_url, "the page of examples")
    until(driver, lambda: any("asked" in e.text for e in in_sections(driver, "dl.facts")), "an item")
    assert query(driver)["change"] == ["fixed"]
    settled(driver)
    item = lambda: in_sections(driver, "dl.facts")[0].text  # noqa: E731
    first = item()
    following = lambda: [b for b in driver.find_elements("css selector", "button") if "next" in b.text]  # noqa: E731
    until(driver, following, "the button to the next item")[0].click()
    until(driver, lambda: "item" in query(driver), "the item in the address")
    shown = until(driver, lambda: (text := item()) != first and text, "the next item")
    driver.get(driver.current_url)
    settled(driver)
    until(driver, lambda: [e for e in in_sections(driver, "dl.facts") if e.text == shown], "the same item again")
    assert not asked_elsewhere(driver)


def test_a_lasso_shows_its_rows_stays_in_the_address_and_can_be_cleared_by_a_key(driver, address):
    from selenium.webdriver.common.action_chains import ActionChains

    driver.get(f"{address}/map")
    settled(driver)
    canvas = until(driver, lambda: in_sections(driver, "canvas.top"), "the map")[0]
    until(driver, lambda: in_sections(driver, ".map[data-drawn]"), "points")
    count = lambda: re.findall(r"([\d,]+) rows in the region", driver.find_element("tag name", "body").text)  # noqa: E731
    assert not count()
    draw = ActionChains(driver).move_to_element_with_offset(canvas, -300, -200).click_and_hold()
    for dx, dy in ((300, 0), (300, 0), (0, 200), (0, 200), (-300, 0), (-300, 0), (0, -300)):
        draw = draw.move_by_offset(dx, dy)
    draw.release().perform()
    first = until(driver, count, "rows of the region")[0]
    assert int(first.replace(",", "")) > 0
    until(driver, lambda: "lasso" in query(driver), "the lasso in the address")
    driver.get(driver.current_url)
    settled(driver)
    assert until(driver, count, "the same rows") == [first]
    canvas = until(driver, lambda: in_sections(driver, "canvas.top"), "the map")[0]
    driver.execute_script("arguments[0].focus()", canvas)
    ActionChains(driver).send_keys("\ue00c").perform()
    until(driver, lambda: not count(), "no region")
    ActionChains(driver).send_keys("a").perform()
    until(driver, count, "what is in view")
    assert not asked_elsewhere(driver)


def picture(driver) -> tuple[str, int]:
    """What stands on the map's canvas: a digest, and how many of its pixels are not empty."""
    return driver.execute_script(
        "const c = arguments[0], d = document.createElement('canvas').getContext('2d');"
        "[d.canvas.width, d.canvas.height] = [c.width, c.height]; d.drawImage(c, 0, 0);"
        "const p = d.getImageData(0, 0, c.width, c.height).data; let n = 0;"
        "for (let i = 3; i < p.length; i += 4) n += p[i] > 0; return [c.toDataURL(), n];",
        until(driver, lambda: in_sections(driver, ".map canvas"), "the canvas")[0],
    )


def test_the_map_is_still_drawn_when_one_comes_back_to_it_and_a_lasso_of_before_is_gone(driver, address):
    driver.get(f"{address}/map")
    until(driver, lambda: in_sections(driver, ".map[data-drawn]"), "points")
    settled(driver)
    before = picture(driver)
    assert before[1] > 1000
    canvas = in_sections(driver, "canvas.top")[0]
    driver.execute_script("arguments[0].focus()", canvas)
    body = lambda: driver.find_element("tag name", "body").text  # noqa: E731
    canvas.send_keys("a")
    until(driver, lambda: "rows in the region" in body(), "a region")
    driver.execute_script(
        "window.painted = 0; const gl = WebGL2RenderingContext.prototype, draw = gl.drawArrays;"
        "gl.drawArrays = function (...a) { window.painted++; return draw.apply(this, a); }"
    )
    for page, mark in (("Method", "The four verdicts"), ("Map", "")):
        driver.find_element("link text", page).click()
        until(driver, lambda p=page: f"/{p.lower()}" in driver.current_url, page)
        until(driver, lambda m=mark: not m or any(m in e.text for e in in_sections(driver, "caption")), mark)
    until(driver, lambda: in_sections(driver, ".map[data-drawn]"), "points again")
    settled(driver)
    assert picture(driver) == before
    assert driver.execute_script("return window.painted") == 0, "nothing was drawn again"
    assert "rows in the region" not in body()
    assert "lasso" not in query(driver)
    in_sections(driver, ".legend button")[0].click()
    until(driver, lambda: picture(driver)[1] < before[1], "fewer points")
    assert driver.execute_script("return window.painted") == 1


def test_a_row_is_judged_on_the_review_page_and_the_decision_is_there_after_a_reload(driver, versions):
    folder, address = versions
    driver.get(f"{address}/review?run=first&reviewer=lan")
    settled(driver)
    rows = until(driver, lambda: in_sections(driver, "table b[data-key]"), "the queue")
    wanted = rows[2].get_attribute("data-key")
    driver.execute_script("arguments[0].click()", rows[2])
    until(driver, lambda: query(driver).get("row") == [wanted], "the row in the address")
    shown = lambda: " ".join(e.text for e in in_sections(driver, "dl.facts"))  # noqa: E731
    until(driver, lambda: wanted in shown(), "its fate")
    settled(driver)
    keep = lambda: [b for b in driver.find_elements("css selector", "button") if "Keep" in b.text]  # noqa: E731
    until(driver, keep, "the button")[0].click()
    file = folder / "first" / "annotations.jsonl"
    until(driver, file.is_file, "the decision on the disk")
    assert json.loads(file.read_text()) == {"content": wanted[:16], "decision": "keep", "reviewer": "lan"}
    until(driver, lambda: query(driver).get("row") not in (None, [wanted]), "the next row")
    driver.get(driver.current_url)
    settled(driver)
    decided = lambda: [e for e in in_sections(driver, "td") if "✓ keep" in e.text and "lan" in e.text]  # noqa: E731
    assert len(until(driver, decided, "the decision in the table")) == 1
    assert not asked_elsewhere(driver)


def test_a_reason_of_the_diff_leads_to_its_rows_and_their_fate_in_both_and_stays_in_the_address(driver, versions):
    _, address = versions
    driver.get(f"{address}/diff?run=first&against=second")
    settled(driver)
    bars = until(driver, lambda: in_sections(driver, "svg g[data-key]"), "the reasons")
    driver.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", bars[0])
    body = lambda: driver.find_element("tag name", "body").text  # noqa: E731
    found = until(driver, lambda: re.findall(r"([\d,]+) rows kept by ([AB]) only", body()), "its rows")[0]
    assert query(driver)["kept_in"] == [found[1].lower()]
    row = until(driver, lambda: in_sections(driver, "tbody b[data-key]"), "a row")[-1]
    id_ = row.get_attribute("data-key")
    driver.execute_script("arguments[0].click()", row)
    fates = lambda: [e for e in in_sections(driver, "dl.facts") if id_ in e.text]  # noqa: E731
    until(driver, lambda: len(fates()) == 2, "its fate in both")
    driver.get(driver.current_url)
    settled(driver)
    until(driver, lambda: len(fates()) == 2, "the same after a reload")
    assert found[0] in body()
    assert not asked_elsewhere(driver)


@pytest.mark.parametrize("page", ["", *(p for p in PAGES if p != "overview")])
def test_no_page_asks_anybody_else_or_writes_an_error_to_the_console(driver, address, page):
    driver.get(f"{address}/{page}")
    until(driver, lambda: driver.find_elements("css selector", "h1") or in_sections(driver, "h1"), "the title")
    ground = lambda: driver.execute_script(  # noqa: E731
        "return getComputedStyle(document.querySelector('.stApp')).backgroundColor"
    )
    for theme, wanted in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(15, 23, 42)")):
        lit(driver, theme)  # the page stays open: its sections turn with the system
        until(driver, lambda w=wanted: ground() == w, theme)
        settled(driver)
        end = time.monotonic() + 15  # Streamlit draws its own part again in the other theme
        while (faint := driver.execute_script(FAINT, 1)) and time.monotonic() < end:
            time.sleep(0.3)
        assert faint == [], theme
    assert not driver.find_elements("css selector", "[data-testid=stException]")
    assert not asked_elsewhere(driver)
    # a page opened by its address asks for health and settings below that address first, and finds none: Streamlit's
    said = [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert not [m for m in said if "_stcore/" not in m]


def axe_says(driver, *, ours: bool = False) -> list[str]:
    """What axe-core finds wrong by WCAG 2.2 A and AA and by its best practices.

    Args:
        driver: a page is open in it.
        ours: only what is inside of the app's sections and map; the frame around them is Streamlit's.
    """
    package = importlib.util.find_spec("axe_playwright_python")
    if not (package and package.origin):
        pytest.skip("axe-core: pip install --no-deps axe-playwright-python")
    driver.execute_script(Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    found = driver.execute_async_script("axe.run(document).then(arguments[0], e => arguments[0]({ error: String(e) }))")
    assert "error" not in found, found
    assert len(found["passes"]) > 10
    return [
        f"{v['id']}: {v['help']}: {node['html'][:120]}"
        for v in found["violations"]
        for node in v["nodes"]
        if not ours or any(isinstance(step, list) for step in node["target"])  # a path through a shadow root
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_the_report_and_would(driver, finished, tmp_path, theme):
    lit(driver, theme)
    driver.get(f"file://{write_html(finished, tmp_path / 'report.html')}")
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert axe_says(driver) == []
    driver.execute_script(
        "document.documentElement.removeAttribute('lang'); document.querySelector('svg').removeAttribute('aria-label');"
        "document.querySelector('caption').style.color = arguments[0]",
        "#aaaaaa" if theme == "light" else "#444444",
    )
    assert {said.split(":")[0] for said in axe_says(driver)} >= {"html-has-lang", "svg-img-alt", "color-contrast"}


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_wrong_with_the_sections_of_a_page(driver, address, page):
    driver.get(f"{address}/{page}")
    until(driver, lambda: driver.find_elements("css selector", "h1") or in_sections(driver, "h1"), "the title")
    settled(driver)
    assert axe_says(driver, ours=True) == []


# Texts that stand out too little, told by the browser itself.
FAINT = (Path(__file__).parent / "contrast.js").read_text()


def lit(driver, theme: str, medium: str = "") -> None:
    """What the reader's system asks for: `light` or `dark`, on a screen or on paper."""
    wanted = {"features": [{"name": "prefers-color-scheme", "value": theme}], "media": medium}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_of_the_report_stands_out_and_everything_is_reached_by_the_keyboard(
    driver, finished, tmp_path, theme
):
    file = write_html(finished, tmp_path / "report.html")
    lit(driver, theme)
    driver.get(f"file://{file}")
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert driver.execute_script(FAINT, 0) == []
    driver.execute_script(
        "const c = document.querySelector('caption'); c.style.color = getComputedStyle(document.body).backgroundColor"
    )
    assert driver.execute_script(FAINT, 0), "a faint text would be found"
    driver.get(f"file://{file}")
    wanted = driver.execute_script("return document.querySelectorAll('summary, .scroll').length")
    reached = set()
    for _ in range(wanted + 5):
        driver.switch_to.active_element.send_keys("\ue004")
        here = driver.execute_script(
            "const e = document.activeElement; return e === document.body ? null : "
            "[[...document.querySelectorAll('*')].indexOf(e), e.localName, getComputedStyle(e).outlineStyle]"
        )
        if here:
            assert here[2] != "none", "where the focus is can be seen"
            reached.add(here[0])
    assert len(reached) >= wanted
    summary = driver.find_elements("css selector", "details.ex > summary")[0]
    driver.execute_script("arguments[0].focus()", summary)
    summary.send_keys("\ue007")
    assert driver.execute_script("return arguments[0].parentElement.open", summary)
    assert not asked_elsewhere(driver)


def test_the_report_of_a_dark_screen_is_printed_in_light_colours(driver, finished, tmp_path):
    file = write_html(finished, tmp_path / "report.html")
    driver.get(f"file://{file}")
    ground = "return getComputedStyle(document.body).backgroundColor"
    lit(driver, "dark")
    assert driver.execute_script(ground) != "rgb(255, 255, 255)"
    lit(driver, "dark", "print")
    assert driver.execute_script(ground) == "rgb(255, 255, 255)"
    assert driver.execute_script(FAINT, 0) == []


def test_the_legend_hides_a_class_and_says_so(driver, address):
    driver.get(f"{address}/map")
    settled(driver)
    button = until(driver, lambda: in_sections(driver, ".legend button"), "the legend")[0]
    button.click()
    assert button.get_attribute("aria-pressed") == "false"


def test_without_webgl2_there_is_a_picture(tmp_path, address):
    driver = browser(tmp_path / "profile", "--disable-3d-apis")
    try:
        driver.get(f"{address}/map")
        settled(driver)
        until(driver, lambda: driver.find_elements("css selector", "[data-testid=stImage] img"), "the picture")
        until(driver, lambda: any("no WebGL2" in e.text for e in in_sections(driver, ".place")), "why")
    finally:
        driver.quit()

"""The app in a real browser: verdict to example, lasso, address bar, and no request to anywhere else.

apt-get install chromium chromium-driver
pytest -m browser tests/reports/test_browser.py
"""

import json
import re
import shutil
import subprocess
from urllib.parse import parse_qs, urlsplit

import pytest

from tamis.reports.launch import command, environment, stop

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WAIT_S = 60
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--window-size=1400,1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def address(finished):
    """The app of the finished run, started as `tamis report RUN --serve` starts it."""
    with subprocess.Popen(
        command(0), env=environment(finished), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        port = next(m[1] for line in server.stdout if (m := re.search(r"http://[\w.]+:(\d+)", line)))
        yield f"http://127.0.0.1:{port}"
        stop(server)


def browser(folder, *flags):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, *flags, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
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
    WebDriverWait(driver, WAIT_S).until(lambda d: d.find_elements("css selector", ready))


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
        until(driver, lambda: any("no WebGL2" in e.text for e in in_sections(driver, ".map")), "why")
    finally:
        driver.quit()

"""A browser without a window, driven by its own driver, for what only a real page shows; pictures of what it saw."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from Codes.ground.paths import ROOT

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

T = TypeVar("T")
PATIENCE = 120  # seconds for what must appear, on a machine that is busy with something else
PICTURES = ROOT / "test-report" / "browser"
BROWSERS = "chromium", "google-chrome", "chromium-browser"


def program() -> str | None:
    """The path of a browser."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def driver() -> str | None:
    """The path of its driver; GitHub's machines name its folder in CHROMEWEBDRIVER."""
    return shutil.which("chromedriver") or shutil.which(
        "chromedriver", path=os.environ.get("CHROMEWEBDRIVER", "")
    )


def missing() -> str:
    """Why there is no browser here, and what installs one; '' where there is one."""
    return "" if program() and driver() else "no Chromium with its driver: make browser installs it"


class Page:
    """What the browser shows; each wait is for what is looked for, and a failure leaves a picture."""

    def __init__(self, chrome: "Chrome") -> None:
        self.chrome = chrome

    def open(self, url: str) -> None:
        """Go to `url`."""
        self.chrome.get(url)

    def wait(self, what: str, look: Callable[[], T], seconds: float = PATIENCE) -> T:
        """What `look` finds, once it does; where it never does, the error names `what`, and the picture `failed`."""
        from selenium.common.exceptions import TimeoutException, WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait

        # what a page that draws itself anew takes away between two looks is looked for again
        waiting = WebDriverWait(self.chrome, seconds, 0.2, [WebDriverException])
        try:
            return waiting.until(lambda _: look())
        except TimeoutException as error:
            self.picture("failed")
            raise AssertionError(
                f"{what}: not seen in {seconds:g} s at {self.chrome.current_url}"
            ) from error

    def all(self, css: str, text: str = "") -> "list[WebElement]":
        """The elements that `css` selects, those whose text matches `text` only."""
        found = self.chrome.find_elements("css selector", css)
        return [each for each in found if not text or re.search(text, each.text)]

    def find(self, css: str, text: str = "", seconds: float = PATIENCE) -> "WebElement":
        """The first such element, once it is there."""
        return self.wait(f"{css} {text}".strip(), lambda: self.all(css, text), seconds)[0]

    def click(self, css: str, text: str = "") -> None:
        """Click the first such element that takes a click."""

        def clicked() -> bool:
            for each in self.all(css, text):
                each.click()
                return True
            return False

        self.wait(f"a click on {css} {text}", clicked)

    def says(self, text: str, css: str = "body") -> str:
        """The match of the pattern `text` in what `css` shows, once it is there."""

        def said() -> str:
            shown = " ".join(each.text for each in self.all(css))
            found = re.search(text, shown, re.DOTALL)
            return found[0] if found else ""

        return self.wait(text, said)

    def double_click(self, css: str, text: str = "") -> None:
        """Double-click the first such element."""
        from selenium.webdriver.common.action_chains import ActionChains

        element = self.find(css, text)
        ActionChains(self.chrome).double_click(element).perform()

    def close_assistant(self) -> None:
        """Close the panel that MLflow opens beside the first page of a new browser."""
        self.click('[data-component-id="mlflow.assistant.chat_panel.close"]')

    def picture(self, name: str) -> Path:
        """Keep what is seen."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.chrome.save_screenshot(str(file := PICTURES / f"{name}.png"))
        return file


@contextlib.contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser of its own, its profile in the folder `profile`."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program() or ""
    wanted = (
        "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --window-size=1400,900"
    )
    for each in [*wanted.split(), f"--user-data-dir={profile}"]:
        options.add_argument(each)
    service = webdriver.ChromeService(driver() or "")
    chrome = webdriver.Chrome(options=options, service=service)
    chrome.set_page_load_timeout(PATIENCE)
    try:
        yield Page(chrome)
    finally:
        chrome.quit()

"""`make images`: pictures of the pages of the Lake for the documentation, from a stack that runs (`make up`).

The stack should have the data of `make demo`.
"""

from __future__ import annotations

import shutil
import sys

from playwright.sync_api import Page, sync_playwright

from sluice.environment import web_url
from sluice.settings import PROJECT_ROOT, load_settings
from sluice_dev.stack.airflow import USER, password

FOLDER = PROJECT_ROOT / "docs" / "images"

PICTURES = {
    "lake-overview": "/plugin/lake",
    "lake-lineage": "/plugin/lake/lineage",
    "lake-table": "/plugin/lake/tables/events",
    "lake-dataset": "/plugin/lake/tables/datasets",
    "lake-quality": "/plugin/lake/quality/accommodations/consolidate",
    "lake-quarantine": "/plugin/lake/quarantine",
    "lake-files": "/plugin/lake/files?prefix=quality/events/hourly/",
    "lake-run": "/dags/datasets_aggregate/plugin/data",
    "lake-home": "/",
}
"""Name of a picture -> the address that it shows."""

WIDTH, HEIGHT = 1280, 860


def main() -> None:
    """Take every picture, and say where it is."""
    settings = load_settings()
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((found for name in names if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_context(base_url=web_url(settings), viewport={"width": WIDTH, "height": HEIGHT}).new_page()
        page.goto("/")
        page.get_by_label("Username").fill(USER)
        page.get_by_label("Password").fill(password(settings))
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Dags").first.wait_for()
        for name, path in PICTURES.items():
            page.goto(path)
            wait_until_loaded(page)
            page.screenshot(path=FOLDER / f"{name}.png")
            sys.stdout.write(f"{FOLDER / name}.png\n")
        chromium.close()


def wait_until_loaded(page: Page) -> None:
    """Wait until the part of the Lake that a page shows has its data, and its charts are drawn."""
    page.locator("[data-testid=lake], [data-testid=lake-data], [data-testid=lake-verdict]").first.wait_for()
    page.wait_for_function("!document.querySelector('[data-testid=lake-loading]')")
    page.wait_for_load_state("networkidle")


if __name__ == "__main__":
    main()

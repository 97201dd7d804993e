"""The trigger form of datasets_aggregate, as a person fills it in."""

from __future__ import annotations

import boto3
from playwright.sync_api import Page, expect
from tests.browser.conftest import RunningStack, eventually

from datasets_world import csv_of, row
from sluice.aws import EMBEDDED_SECRET_KEY


def test_the_form_refuses_what_names_no_source_and_processes_what_does(stack: RunningStack, page: Page) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{stack.environment['SLUICE_AWS_PORT']}",
        region_name="us-east-1",
        aws_access_key_id="000000000000",
        aws_secret_access_key=EMBEDDED_SECRET_KEY,
    )
    # No name that the queue hears of: nobody but this form has it processed.
    s3.put_object(Bucket="sluice-landing", Key="datasets/form.txt", Body=csv_of(row(memory=7)))

    fill_in(page, "http://example.org/x.csv")
    refusal = page.get_by_role("dialog").get_by_text("Invalid input for param source")
    expect(refusal).to_be_visible(timeout=30_000)

    fill_in(page, "datasets/form.txt")
    expect(page.get_by_role("dialog")).to_be_hidden(timeout=30_000)
    output = {"Bucket": "sluice-lake", "Prefix": "curated/datasets/form.parquet"}
    eventually(lambda: s3.list_objects_v2(**output)["KeyCount"] == 1, timeout_seconds=120)


def fill_in(page: Page, source: str) -> None:
    """Open the form, name a source, and trigger."""
    page.goto("/dags/datasets_aggregate")
    page.get_by_role("button", name="Trigger").click()
    form = page.get_by_role("dialog")
    form.locator("[name='element_source']").fill(source)
    # The form takes a value when the field is left.
    form.locator("[name='element_source']").press("Tab")
    form.get_by_role("button", name="Trigger", exact=True).click()

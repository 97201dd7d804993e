"""Lineage as a catalogue reads it, through the file transport: Airflow in a process of its own, as it reads it once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dockerhub_account import DockerHubAccount
from sluice.environment import aws_connection
from sluice_dev.dockerhub import DockerHubStandIn


def test_a_run_says_from_which_source_to_which_table_and_objects_it_went(
    account: DockerHubAccount, configure: Callable[..., Any], other_database: str, tmp_path: Path
) -> None:
    written = tmp_path / "events.jsonl"
    settings = account.settings
    with DockerHubStandIn() as stand_in:
        configure(dockerhub_url=stand_in.url, dockerhub_repositories="library/redis")
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "dags", "test", "dockerhub_pull"],
            env=os.environ
            | {
                "AIRFLOW_CONN_AWS_DEFAULT": aws_connection(settings),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": other_database,
                "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                    {"type": "file", "log_file_path": str(written), "append": True}
                ),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in written.read_text().splitlines()]
    ended = {event["job"]["name"]: event for event in events if event["eventType"] == "COMPLETE"}
    assert {event["job"]["namespace"] for event in events} == {os.environ["AIRFLOW__OPENLINEAGE__NAMESPACE"]}

    def datasets(task_id: str, kind: str) -> set[tuple[str, str]]:
        return {(each["namespace"], each["name"]) for each in ended[f"dockerhub_pull.{task_id}"][kind]}

    glue = f"arn:aws:glue:{settings.aws_region}:{settings.aws_account_id}"
    lake = f"s3://{settings.lake_bucket}"
    assert datasets("publish_answers", "inputs") == {("https://hub.docker.com", "v2/repositories")}, (
        "an address that changes with each start of the stand-in fails the first pull after it"
    )
    assert datasets("publish_answers", "outputs") == {
        (glue, f"table/{settings.glue_database}/dockerhub_history"),
        (lake, "raw/dockerhub"),
    }


def test_every_asset_has_a_dataset_of_its_own_in_a_namespace_of_the_field(account: DockerHubAccount) -> None:

    from sluice import pipelines
    from sluice_airflow import lineage
    from sluice_airflow.assets import assets

    lineage._account_id.cache_clear()
    declared = [asset for name in pipelines.names() for asset in assets(name).values()]
    found = [lineage.dataset_of(each) for each in declared]
    assert len({(each.namespace, each.name) for each in found}) == len(declared)
    services = {"http": "https://", "iceberg": "arn:aws:glue:", "json": "s3://", "parquet": "s3://", "csv": "s3://"}
    for asset, dataset in zip(declared, found, strict=True):
        kind = str(asset.extra["format"])
        assert dataset.namespace.startswith(services.get(kind, f"arn:aws:{kind}:")), asset.name
        assert "description" in str(dataset.facets)

"""What arrives at the pipelines of a running stack, and what must come out of it."""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

import pyarrow.parquet as pq

from accommodations_world import a_record, json_lines
from browser.conftest import RunningStack
from datasets_world import csv_of, row

QUEUES = ("sluice-dev-dockerhub-raw", "sluice-dev-datasets", "sluice-dev-accommodations")
BRIEF_SECONDS = 30


def put_raw(stack: RunningStack, repository: str, file_name: str, pull_count: int) -> None:
    namespace, name = repository.split("/")
    year, month, day, time = file_name.split("_")
    body = {
        "user": namespace,
        "name": name,
        "namespace": namespace,
        "star_count": 7,
        "pull_count": pull_count,
        "last_updated": f"{year}-{month}-{day}T{time[:2]}:{time[2:4]}:{time[4:]}Z",
    }
    key = f"raw/dockerhub/namespace={namespace}/name={name}/year={year}/month={month}/day={day}/{file_name}.json"
    stack.client("s3").put_object(Bucket="sluice-lake", Key=key, Body=json.dumps(body).encode())


def months(stack: RunningStack, repository: str) -> dict[str, int]:
    """`pull_count` of each month, from the latest item of the repository."""
    namespace, name = repository.split("/")
    pk = {"S": f"#user#{namespace}#name#{name}#namespace#{namespace}"}
    get = stack.client("dynamodb").get_item
    marker = get(TableName="dockerhub_stats", Key={"PK": pk, "SK": {"S": "#latest_version"}}).get("Item")
    if marker is None:
        return {}
    sort_key = f"#timestamp#{marker['last_updated']['S']}"
    item = get(TableName="dockerhub_stats", Key={"PK": pk, "SK": {"S": sort_key}})["Item"]
    aggregated = item["aggregated_metrics_by_year_month"]["M"]
    return {month: int(entry["L"][0]["M"]["pull_count"]["N"]) for month, entry in aggregated.items()}


def return_messages_soon(stack: RunningStack) -> None:
    """Messages that a killed task had received come back after half a minute, not after up to fifteen minutes."""
    sqs = stack.client("sqs")
    for name in QUEUES:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(BRIEF_SECONDS)})


def staged(stack: RunningStack, pipeline: str) -> set[str]:
    """Keys of what the runs of a pipeline have staged: the first is written when a run has taken its messages."""
    prefix = f"staging/{pipeline}/"
    listed = stack.client("s3").list_objects_v2(Bucket="sluice-lake", Prefix=prefix).get("Contents", [])
    return {each["Key"] for each in listed}


@dataclass(frozen=True)
class Outputs:
    """What three pipelines made.

    Attributes:
        months: pull count of each month of the repository.
        datasets: rows of each CSV file by the name of its output.
        dataset_versions: how often each of these was published.
        accommodations: how often each is in an output file.
    """

    months: dict[str, int]
    datasets: dict[str, int]
    dataset_versions: Counter[str]
    accommodations: Counter[str]


def put_inputs(stack: RunningStack, name: str, number: int) -> None:
    """One object for each of three pipelines: a pull of Docker Hub, a CSV file, a file of a partner."""
    s3 = stack.client("s3")
    put_raw(stack, f"{name}/image", f"{_month(number).replace('-', '_')}_03_040506", pull_count=number)
    csv = csv_of(*[row(memory=number)] * (number + 1))
    s3.put_object(Bucket="sluice-landing", Key=f"datasets/{name}-{number}.csv", Body=csv)
    partner_file = json_lines([a_record(f"{name}-{number}", "A")])
    s3.put_object(Bucket="sluice-landing", Key=f"accommodations/{name}-{number}.jsonl", Body=partner_file)


def outputs_of_inputs(name: str, count: int) -> Outputs:
    """What must come out of that many inputs of a name: of each exactly one."""
    keys = [f"{name}-{number}" for number in range(count)]
    return Outputs(
        {_month(number): number for number in range(count)},
        {key: number + 1 for number, key in enumerate(keys)},
        Counter(keys),
        Counter(keys),
    )


def find_outputs(stack: RunningStack, name: str) -> Outputs:
    """What came out of the inputs of a name so far."""
    s3 = stack.client("s3")

    def listed(prefix: str) -> list[str]:
        answer = s3.list_object_versions(Bucket="sluice-lake", Prefix=prefix)
        # What a canary wrote was deleted.
        deleted = {marker["Key"] for marker in answer.get("DeleteMarkers", []) if marker["IsLatest"]}
        return [version["Key"] for version in answer.get("Versions", []) if version["Key"] not in deleted]

    def read(key: str) -> bytes:
        body: bytes = s3.get_object(Bucket="sluice-lake", Key=key)["Body"].read()
        return body

    datasets = Counter(listed(f"curated/datasets/{name}-"))
    names = {key: key.rpartition("/")[2].removesuffix(".parquet") for key in datasets}
    lines = [json.loads(line) for key in listed("curated/accommodations/") for line in read(key).splitlines()]
    return Outputs(
        months(stack, f"{name}/image"),
        {names[key]: pq.read_table(io.BytesIO(read(key))).to_pylist()[0]["memory_count"] for key in datasets},
        Counter({names[key]: count for key, count in datasets.items()}),
        Counter(line["accommodation_id"] for line in lines if line["accommodation_id"].startswith(f"{name}-")),
    )


def _month(number: int) -> str:
    return f"{2000 + number // 12}-{number % 12 + 1:02}"


class Producer:
    """Puts the inputs of a name, one number after another, until it is stopped.

    Attributes:
        count: numbers that were put.
    """

    def __init__(self, stack: RunningStack, name: str) -> None:
        self.stack, self.name = stack, name
        self.count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(2):
            put_inputs(self.stack, self.name, self.count)
            self.count += 1

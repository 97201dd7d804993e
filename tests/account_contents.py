"""All that a reader can see in an account, to show that a step changed nothing."""

from __future__ import annotations

import json
from typing import Any

from sluice.aws import s3
from sluice.aws.sessions import client
from sluice.settings import load_settings


def everything() -> dict[str, Any]:
    """Objects but for staging and reports of gates, items, partitions' places, and depths of queues."""
    found: dict[str, Any] = {}
    settings = load_settings()
    for each in s3.list_objects(settings.lake_bucket, ""):
        if not each.key.startswith(("staging/", "quality/")):
            found[each.key] = each.etag
    for table in client("dynamodb").list_tables()["TableNames"]:
        items = client("dynamodb").scan(TableName=table)["Items"]
        found[table] = sorted(json.dumps(item, sort_keys=True) for item in items)
    for url in client("sqs").list_queues().get("QueueUrls", []):
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found[url] = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    glue: Any = client("glue")
    for database in glue.get_databases()["DatabaseList"]:
        for table in glue.get_tables(DatabaseName=database["Name"])["TableList"]:
            names = {"DatabaseName": database["Name"], "TableName": table["Name"]}
            places = [each["StorageDescriptor"]["Location"] for each in glue.get_partitions(**names)["Partitions"]]
            found[f"glue {table['Name']}"] = places
    return found

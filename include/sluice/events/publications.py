"""Publications of hours: which version of an hour readers see, and which ones they may still hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from sluice.aws import client, error_code
from sluice.errors import SluiceError
from sluice.events.items import item_key, read_item
from sluice.events.storage import hour_text


@dataclass(frozen=True)
class Publication:
    """The version of an hour that readers see.

    Attributes:
        number: grows by one with each publication of the hour.
        version: name of its folder, `<number>-<hash of the files>`; "" when the hour has no data.
        raw_files: how many raw files of the hour it was made from.
        rows: events in it.
        superseded: version -> when another took its place (UTC); not yet removed.
    """

    number: int = 0
    version: str = ""
    raw_files: int = 0
    rows: int = 0
    superseded: tuple[tuple[str, datetime], ...] = ()


class HourTaken(SluiceError):
    """Another run published the hour meanwhile."""


def _key(stream: str, hour: datetime) -> dict[str, Any]:
    return item_key(f"{stream}#hours", hour_text(hour))


def read_publication(table: str, stream: str, hour: datetime) -> Publication:
    """The publication of an hour as of now; number 0 when it never was published."""
    item = read_item(table, _key(stream, hour))
    if item is None:
        return Publication()
    return Publication(
        int(item["number"]["N"]),
        item["version"]["S"],
        int(item["raw_files"]["N"]),
        int(item["rows"]["N"]),
        tuple(
            (version, datetime.fromisoformat(at["S"]))
            for version, at in sorted(item.get("superseded", {}).get("M", {}).items())
        ),
    )


def write_publication(
    table: str, stream: str, hour: datetime, publication: Publication, run: str, now: datetime
) -> None:
    """Record the next publication of an hour; one conditional write.

    Raises:
        HourTaken: another run has recorded one of this number.
    """
    dynamodb = client("dynamodb")
    try:
        dynamodb.put_item(
            TableName=table,
            Item={
                **_key(stream, hour),
                "number": {"N": str(publication.number)},
                "version": {"S": publication.version},
                "raw_files": {"N": str(publication.raw_files)},
                "rows": {"N": str(publication.rows)},
                "superseded": {"M": {version: {"S": at.isoformat()} for version, at in publication.superseded}},
                "run": {"S": run},
                "published_at": {"S": now.isoformat()},
            },
            ConditionExpression="attribute_not_exists(#number)" if publication.number == 1 else "#number = :before",
            ExpressionAttributeNames={"#number": "number"},
            **({} if publication.number == 1 else _values({":before": {"N": str(publication.number - 1)}})),
        )
    except ClientError as error:
        if error_code(error) != "ConditionalCheckFailedException":
            raise
        raise HourTaken(f"hour {hour_text(hour)}: another run recorded publication {publication.number}") from None


def _values(values: dict[str, Any]) -> dict[str, Any]:
    return {"ExpressionAttributeValues": values}


def supersede(table: str, stream: str, hour: datetime, version: str, now: datetime) -> None:
    """Note that readers may hold a version until now, because the catalog still pointed at it."""
    client("dynamodb").update_item(
        TableName=table,
        Key=_key(stream, hour),
        UpdateExpression="SET superseded.#version = :now",
        ConditionExpression="attribute_exists(superseded)",
        ExpressionAttributeNames={"#version": version},
        ExpressionAttributeValues={":now": {"S": now.isoformat()}},
    )


def forget_superseded(table: str, stream: str, hour: datetime, versions: Sequence[str]) -> None:
    """Drop versions that were removed from the list of an hour."""
    names = {f"#v{index}": version for index, version in enumerate(versions)}
    client("dynamodb").update_item(
        TableName=table,
        Key=_key(stream, hour),
        UpdateExpression="REMOVE " + ", ".join(f"superseded.{name}" for name in names),
        ExpressionAttributeNames=names,
    )


def expired_versions(
    folders: Iterable[str], publication: Publication, now: datetime, retention: timedelta
) -> list[str]:
    """Versions that no reader holds any more; pure.

    Args:
        folders: versions that have a folder.
        publication: the current publication.
        now: the time (UTC).
        retention: how long a reader may hold a version after another took its place.

    Returns:
        Versions superseded for longer than the retention, and those that were never published and never will be: their
        number is taken. A version of a higher number than the current is being published.
    """
    superseded = dict(publication.superseded)
    expired = []
    for version in folders:
        number = int(version.partition("-")[0])
        if version == publication.version or number > publication.number:
            continue
        if version not in superseded or superseded[version] + retention <= now:
            expired.append(version)
    return expired

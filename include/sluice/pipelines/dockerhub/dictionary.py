"""Data dictionary of the pipeline (docs/tables.md)."""

from sluice.core.dictionary import Collection, Field, iceberg
from sluice.pipelines.dockerhub.storage import HISTORY

_REPOSITORY = Field("PK", "S", "repository, `#user#<user>#name#<name>#namespace#<namespace>`", "partition key")
_TTL = Field("TTL", "N", "seconds since 1970 at which DynamoDB deletes the item: 60 days after its last write")
_AGGREGATED = ("dockerhub_aggregate", "dockerhub_rebuild")
_FRESH = "seconds after the raw object arrived"

COLLECTIONS = (
    Collection(
        "raw/dockerhub",
        "JSON",
        "The whole response of Docker Hub for one repository, one object for each push; the fields below are used",
        "`raw/dockerhub/namespace=<namespace>/name=<name>/year=YYYY/month=MM/day=DD/YYYY_MM_DD_HHMMSS.json`",
        (
            Field("user", "string", "user that owns the repository"),
            Field("name", "string", "name of the repository"),
            Field("namespace", "string", "namespace of the repository"),
            Field("star_count", "integer", "stars, 0 or more"),
            Field("pull_count", "integer", "pulls since the repository exists, 0 or more"),
            Field("last_updated", "string", "time of the last push, ISO 8601 in UTC"),
        ),
        ("dockerhub_pull",),
        "one pull: `SLUICE_DOCKERHUB_PULL_SCHEDULE`, 5 minutes",
        "365 days",
        "namespace, name, day of `last_updated`",
    ),
    iceberg(
        HISTORY,
        key="`observed_at`, `namespace`, `name`",
        written_by=("dockerhub_pull",),
        fresh="one pull: `SLUICE_DOCKERHUB_PULL_SCHEDULE`, 5 minutes",
    ),
    Collection(
        "dockerhub_stats: pushes",
        "DynamoDB table",
        "The counts of one repository at one push, and its months at that time",
        "`SLUICE_DOCKERHUB_TABLE`",
        (
            _REPOSITORY,
            Field("SK", "S", "`#timestamp#<last_updated>`", "sort key"),
            Field("last_updated", "S", "time of the push, as Docker Hub sent it"),
            Field("star_count", "N", "stars"),
            Field("pull_count", "N", "pulls since the repository exists"),
            Field(
                "aggregated_metrics_by_year_month",
                "M",
                "`YYYY-MM` -> list of one map `star_count`, `pull_count`: of the raw object of that month whose file"
                " name is greatest",
            ),
            Field("source_version", "S", "`<file name>@<time of writing>@<key>` of the raw object with these counts"),
            Field("months_revision", "N", "revision of the monthly state of which the months are a copy"),
            _TTL,
        ),
        _AGGREGATED,
        _FRESH,
        "60 days after the last write",
    ),
    Collection(
        "dockerhub_stats: latest version",
        "DynamoDB table",
        "The latest push of one repository; an older object that arrives late does not move it back",
        "`SLUICE_DOCKERHUB_TABLE`",
        (
            _REPOSITORY,
            Field("SK", "S", "`#latest_version`", "sort key"),
            Field("last_updated", "S", "time of the latest push, as Docker Hub sent it"),
            Field("last_updated_us", "N", "the same in microseconds since 1970, by which pushes are ordered"),
            _TTL,
        ),
        _AGGREGATED,
        _FRESH,
        "60 days after the last write",
    ),
    Collection(
        "dockerhub_stats: monthly state",
        "DynamoDB table",
        "The raw object with the greatest file name in each month of one repository"
        " ([decision 3](decisions/0003-monthly-state-item.md))",
        "`SLUICE_DOCKERHUB_TABLE`",
        (
            _REPOSITORY,
            Field("SK", "S", "`#monthly_state`", "sort key"),
            Field("YYYY-MM", "M", "one attribute a month: `source_version`, `star_count`, `pull_count` of that object"),
            Field(
                "revision",
                "N",
                "grows by one with each change; the copy of the months with the greatest revision is current",
            ),
        ),
        _AGGREGATED,
        _FRESH,
        "for ever",
    ),
)

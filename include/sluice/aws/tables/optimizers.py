"""The table optimizers of AWS Glue, which maintain the Iceberg tables where `SLUICE_TABLE_MAINTENANCE` is `glue`.

They use the role `TableOptimizerRole` of infra/platform.yaml. With `airflow`, optimizers with this role are deleted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from sluice.aws.sessions import client_of, error_code
from sluice.aws.tables.definitions import TableDefinition
from sluice.aws.tables.maintenance import SMALL_FILES, WRITE_HOURS
from sluice.errors import TerminalError
from sluice.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_glue import GlueClient

MAINTAINED_BY_GLUE = (
    "nothing to do: the table optimizers of Glue maintain the tables (SLUICE_TABLE_MAINTENANCE=glue). To let this Dag "
    "maintain them, set SLUICE_TABLE_MAINTENANCE=airflow and run `sluice deploy`"
)

TYPES = ("compaction", "retention", "orphan_file_deletion")


class OptimizerError(TerminalError):
    """Glue refused a table optimizer; the message names it, the reason and what to do."""


def role_name(settings: Settings) -> str:
    """Name of the role that the optimizers use (infra/platform.yaml)."""
    return f"{settings.resource_prefix}-table-optimizer"


def configurations(settings: Settings, definition: TableDefinition, role_arn: str) -> dict[str, dict[str, Any]]:
    """Type of an optimizer -> its configuration for a table; other options have the default of Glue.

    Glue counts in days: hours are rounded up, so that nothing is deleted before the retention ends.
    """
    retention_hours = settings.table_retention_hours
    compaction = {"strategy": "binpack", "minInputFiles": SMALL_FILES}
    retention = {
        "snapshotRetentionPeriodInDays": math.ceil(retention_hours / 24),
        "numberOfSnapshotsToRetain": 1,
        "cleanExpiredFiles": True,
    }
    orphans = {
        "orphanFileRetentionPeriodInDays": math.ceil((retention_hours + WRITE_HOURS) / 24),
        "location": f"s3://{settings.lake_bucket}/{definition.prefix.rstrip('/')}",
    }
    works = {"roleArn": role_arn, "enabled": True}
    return {
        "compaction": works | {"compactionConfiguration": {"icebergConfiguration": compaction}},
        "retention": works | {"retentionConfiguration": {"icebergConfiguration": retention}},
        "orphan_file_deletion": works | {"orphanFileDeletionConfiguration": {"icebergConfiguration": orphans}},
    }


def create_wanted(settings: Settings, definitions: Iterable[TableDefinition], account: str) -> list[str]:
    """With `glue`, create the optimizers that tables lack and change those that differ; `Add compaction of events`, ...

    Args:
        settings: the settings, with `table_maintenance`.
        definitions: existing tables.
        account: id of the account.

    Raises:
        OptimizerError: Glue refused one.
    """
    if settings.table_maintenance != "glue":
        return []
    glue = client_of("glue", settings)
    role_arn = _role_arn(settings, account)
    changes = []
    for definition in definitions:
        for kind, wanted in configurations(settings, definition, role_arn).items():
            names = _names(settings, definition, kind, account)
            found = _configuration(glue, names)
            if found is not None and _holds(found, wanted):
                continue
            configuration: Any = wanted
            try:
                if found is None:
                    glue.create_table_optimizer(**names, TableOptimizerConfiguration=configuration)
                else:
                    glue.update_table_optimizer(**names, TableOptimizerConfiguration=configuration)
            except ClientError as error:
                raise OptimizerError(
                    f"Table optimizer {kind} of {definition.name}: {error}. Deploy again: Glue cannot use a new role "
                    f"for up to a minute. If it is refused again, check the role {role_name(settings)} in the IAM "
                    "console, or set SLUICE_TABLE_MAINTENANCE=airflow."
                ) from None
            changes.append(f"{'Add' if found is None else 'Modify'} {kind} of {definition.name}")
    return changes


def remove_unwanted(settings: Settings, definitions: Iterable[TableDefinition], account: str) -> list[str]:
    """With `airflow`, delete the optimizers that `create_wanted` made on an account; `Remove compaction of events`, ...

    Call it before the stack deletes their role, by which they are found.
    """
    if settings.target != "aws" or settings.table_maintenance == "glue" or not _stack_has_role(settings):
        return []
    glue = client_of("glue", settings)
    role_arn = _role_arn(settings, account)
    changes = []
    for definition in definitions:
        for kind in TYPES:
            names = _names(settings, definition, kind, account)
            found = _configuration(glue, names)
            if found is None or found.get("roleArn") != role_arn:
                continue
            glue.delete_table_optimizer(**names)
            changes.append(f"Remove {kind} of {definition.name}")
    return changes


def _role_arn(settings: Settings, account: str) -> str:
    partition = client_of("glue", settings).meta.partition
    return f"arn:{partition}:iam::{account}:role/{role_name(settings)}"


def _names(settings: Settings, definition: TableDefinition, kind: str, account: str) -> dict[str, Any]:
    return {
        "CatalogId": account,
        "DatabaseName": settings.glue_database,
        "TableName": definition.name,
        "Type": kind,
    }


def _configuration(glue: GlueClient, names: dict[str, Any]) -> Any:
    """Configuration of an optimizer; None if it or its table does not exist."""
    try:
        return glue.get_table_optimizer(**names)["TableOptimizer"]["configuration"]
    except ClientError as error:
        if error_code(error) == "EntityNotFoundException":
            return None
        raise


def _holds(found: object, wanted: object) -> bool:
    """Whether a configuration has all wanted values; values added by Glue (`runRateInHours`, ...) are ignored."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_holds(found.get(key), value) for key, value in wanted.items())
    return found == wanted


def _stack_has_role(settings: Settings) -> bool:
    try:
        found = client_of("cloudformation", settings).describe_stack_resource(
            StackName=f"{settings.resource_prefix}-platform", LogicalResourceId="TableOptimizerRole"
        )
    except ClientError as error:
        # No such stack, or none of its resources.
        if error_code(error) == "ValidationError":
            return False
        raise
    status: str = found["StackResourceDetail"]["ResourceStatus"]
    return status != "DELETE_COMPLETE"

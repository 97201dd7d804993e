"""Deploy the infrastructure: the CloudFormation templates of `infra/`, to the embedded AWS or to an account.

A parameter of a template is the setting of the same name (`LakeBucket` is `lake_bucket`). Deploying an unchanged
version changes nothing.
"""

from __future__ import annotations

import fcntl
import json
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import ClientError
from rich.table import Table

from sluice import pipelines
from sluice.aws.account import account_id
from sluice.aws.emulator import EmbeddedServerError, save
from sluice.aws.glue import add_columns
from sluice.aws.sessions import NOT_FOUND, client_of, error_code
from sluice.aws.tables import optimizers
from sluice.aws.tables.definitions import TableDefinition, create_missing
from sluice.core.console import console
from sluice.core.notifications import is_test_event
from sluice.core.run import utc_now
from sluice.deployment import DeployError
from sluice.deployment.drift import (
    cancel_key_deletions,
    missing_resources,
    stack_resources,
    template_without,
)
from sluice.deployment.older_hours import move_older_hours
from sluice.deployment.repair import repair
from sluice.deployment.stacks import UPDATABLE, deploy_stack, settled_status
from sluice.deployment.template import load_template
from sluice.settings import PROJECT_ROOT, Settings, load_settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

TEMPLATES = PROJECT_ROOT / "infra"
LAKE = "lake"
STACKS = (*(name for name in pipelines.names() if (TEMPLATES / f"{name}.yaml").exists()), "platform", LAKE)
"""Templates in the order of their deployment; `lake` is last, because S3 tests the targets of its notifications.

A pipeline that needs nothing but the two buckets has no template."""

POLL_SECONDS = 2.0
EMBEDDED_POLL_SECONDS = 0.1
TEST_EVENT_WAIT_SECONDS = 2


@dataclass(frozen=True)
class Deployed:
    """Changes of a deployment to one stack: `Add RawTopic`, `Modify Table`, ...; none if it is unchanged."""

    stack_name: str
    changes: tuple[str, ...]
    emptied: tuple[str, ...] = ()
    """Names of resources that were deleted by hand, whose data a deployment does not restore."""


def deploy(settings: Settings, templates: Path = TEMPLATES, stacks: tuple[str, ...] = STACKS) -> list[Deployed]:
    """Deploy all stacks, in their order.

    On the embedded target, properties that the emulator drops are applied afterwards and verified.

    Raises:
        DeployError: AWS does not answer or refuses the credentials, or a stack failed.
    """
    account = account_id(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "deploy.lock").open("w") as lock:
        # CloudFormation fails the second of two concurrent deployments, and the emulator may fail both.
        fcntl.flock(lock, fcntl.LOCK_EX)
        declared = pipelines.declared(settings)
        tables = iceberg_tables(settings)
        optimizer_changes = optimizers.remove_unwanted(settings, tables, account)
        # CloudFormation resets the columns of a table whose definition it changes.
        added = [each.keep_columns(settings) for each in declared if each.keep_columns and each.name in stacks]
        deployed = [deploy_template(settings, name, template_of(settings, templates, name)) for name in stacks]
        for table, columns in added:
            if columns and (kept := add_columns(settings.glue_database, table, columns, settings)):
                deployed.append(Deployed("columns", tuple(f"Restore column {name} of {table}" for name in kept)))
        if any(stack.changes for stack in deployed if stack.stack_name == f"{settings.resource_prefix}-{LAKE}"):
            discard_test_events(settings)
        if settings.target == "embedded" and any(stack.changes for stack in deployed):
            # After a crash the emulator still has its buckets: without their stack, which is the last, they would block
            # a deployment. Saved here, after the test events were removed.
            try:
                save(settings)
            except EmbeddedServerError as error:
                raise DeployError(str(error)) from None
        if set(STACKS) <= set(stacks):
            deployed.append(Deployed("tables", tuple(create_missing(settings, tables))))
            optimizer_changes += optimizers.create_wanted(settings, tables, account)
        if settings.target == "aws":
            deployed.append(Deployed("table optimizers", tuple(optimizer_changes)))
        return deployed


def iceberg_tables(settings: Settings) -> list[TableDefinition]:
    """Iceberg tables that the pipelines declare.

    Not in the templates: CloudFormation would reset the columns and snapshots that writers add.
    """
    return [table for pipeline in pipelines.declared(settings) for table in pipeline.tables()]


def template_of(settings: Settings, templates: Path, name: str) -> str:
    """The template of a stack; the template of the lake includes the S3 notifications of the pipelines, as JSON."""
    text = (templates / f"{name}.yaml").read_text()
    if name != LAKE:
        return text
    template = load_template(text)
    buckets = {"lake": template["Resources"]["Lake"], "landing": template["Resources"]["Landing"]}
    for pipeline in pipelines.declared(settings):
        for each in pipeline.notifications:
            kind, service, target = ("Topic", "sns", each.topic) if each.topic else ("Queue", "sqs", each.queue)
            arn = f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{target}"
            rules = [{"Name": "prefix", "Value": each.prefix}]
            rules += [{"Name": "suffix", "Value": each.suffix}] if each.suffix else []
            configuration = buckets[each.bucket]["Properties"].setdefault("NotificationConfiguration", {})
            configuration.setdefault(f"{kind}Configurations", []).append(
                {kind: {"Fn::Sub": arn}, "Event": "s3:ObjectCreated:*", "Filter": {"S3Key": {"Rules": rules}}}
            )
    return json.dumps(template)


def deploy_template(settings: Settings, name: str, template: str) -> Deployed:
    """Deploy one template as the stack `sluice-<environment>-<name>`, and repair it on the embedded target."""
    cloudformation = client_of("cloudformation", settings)
    stack_name = f"{settings.resource_prefix}-{name}"
    parameters = parameters_of(template, settings)
    tags = {"project": "sluice", "environment": settings.environment}
    poll_seconds = POLL_SECONDS if settings.target == "aws" else EMBEDDED_POLL_SECONDS
    changes, emptied = restore(settings, cloudformation, stack_name, tags, poll_seconds)
    # JSON: the emulator parses YAML more slowly than it creates the stack.
    body = template if settings.target == "aws" else json.dumps(load_template(template))
    changes += deploy_stack(cloudformation, stack_name, body, parameters, tags, poll_seconds)
    if settings.target == "embedded":
        changes += repair(settings, stack_name, template, parameters, tags)
    return Deployed(stack_name, tuple(changes), tuple(emptied))


def restore(
    settings: Settings, cloudformation: CloudFormationClient, stack_name: str, tags: dict[str, str], poll_seconds: float
) -> tuple[list[str], list[str]]:
    """Create resources again that were deleted by hand; returns `Restore RawQueue` for each, and the names of those
    with data.

    The stack is updated with its current template, first without the missing resources, then with them. Existing
    resources are not changed. After an interruption in between, the next deployment creates them.
    """
    if settled_status(cloudformation, stack_name, poll_seconds) not in UPDATABLE:
        return [], []
    deployed: Any = cloudformation.get_template(StackName=stack_name, TemplateStage="Original")["TemplateBody"]
    # boto3 returns a template in JSON parsed, and one in YAML as text.
    template = load_template(deployed) if isinstance(deployed, str) else deployed
    try:
        resources = stack_resources(cloudformation, stack_name, template)
        kept = cancel_key_deletions(settings, resources)
        missing = missing_resources(settings, resources, template)
    except ClientError as error:
        raise DeployError(f"Stack {stack_name}: its resources cannot be checked: {error}") from None
    if missing:
        (stack,) = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
        parameters = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}
        whole = deployed if isinstance(deployed, str) else json.dumps(deployed)
        for text in (json.dumps(template_without(template, missing)), whole):
            deploy_stack(cloudformation, stack_name, text, parameters, tags, poll_seconds)
    restored = [*kept, *(resource.logical_id for resource in missing)]
    emptied = [resource.name for resource in missing if resource.kind and resource.kind.holds_data]
    return [f"Restore {name}" for name in restored], emptied


def discard_test_events(settings: Settings) -> None:
    """Delete `s3:TestEvent` from the queues, which S3 sends for each new notification configuration.

    It would start a Dag without work. Any other received message is made visible again at once.
    """
    sqs = client_of("sqs", settings)
    wait_seconds = TEST_EVENT_WAIT_SECONDS if settings.target == "aws" else 0
    names = [each.queue for pipeline in pipelines.declared(settings) for each in pipeline.notifications]
    for name in names:
        try:
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except ClientError as error:
            if error_code(error) not in NOT_FOUND:
                raise
            continue
        while True:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_seconds)
            messages = answer.get("Messages", [])
            tests = [message for message in messages if is_test_event(message["Body"])]
            for message in messages:
                handle = message["ReceiptHandle"]
                if message in tests:
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
                else:
                    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
            if not tests:
                break


def parameters_of(template: str, settings: Settings) -> dict[str, str]:
    """Values of a template's parameters, each from the setting of its name; `SluiceVersion` is that of this program."""
    names = load_template(template).get("Parameters", {})
    return {
        name: version("sluice")
        if name == "SluiceVersion"
        else str(getattr(settings, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()))
        for name in names
    }


def summary(changes: tuple[str, ...]) -> str:
    """Changes grouped by action, in a line: `Add Table, Topic; Modify Queue`, or `unchanged`."""
    done: dict[str, list[str]] = {}
    for change in changes:
        action, _, what = change.partition(" ")
        done.setdefault(action, []).append(what)
    return "; ".join(f"{action} {', '.join(what)}" for action, what in done.items()) or "unchanged"


@click.command(name="deploy")
def deploy_command() -> None:
    """Deploy the CloudFormation stacks of infra/ to the target that the settings name.

    Buckets, queues, topics, streams, tables, alarms. Deploying again changes nothing, but restores resources that were
    deleted by hand.
    """
    settings = load_settings()
    deployed = deploy(settings)
    if moved := move_older_hours(settings, utc_now()):
        change = f"Move {moved:,} items of {settings.events_checkpoint_table}"
        deployed.append(Deployed(settings.events_hours_table, (change,)))
    table = Table(box=None, show_header=False)
    for stack in deployed:
        table.add_row(stack.stack_name, summary(stack.changes))
    console().print(table)
    if emptied := [name for stack in deployed for name in stack.emptied]:
        click.echo(
            f"These were deleted by hand and are empty now: {', '.join(emptied)}.\n"
            "How to restore their data: docs/how-to/restore.md."
        )

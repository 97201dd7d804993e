"""Create and update one CloudFormation stack by a change set, and name what failed in it."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from sluice.deployment import DeployError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

UPDATABLE = (
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
)
"""States of a stack that can be updated."""

DEADLINE_SECONDS = 1800.0

WAY_OUT = (
    "Put right what is named and deploy again. Where a name exists already, choose another by its setting in .env or "
    "import the resource into the stack; on the embedded AWS, `sluice aws reset` starts from nothing."
)


def deploy_stack(
    cloudformation: CloudFormationClient,
    stack_name: str,
    template: str,
    parameters: dict[str, str],
    tags: dict[str, str],
    poll_seconds: float,
) -> list[str]:
    """Create or update one stack by a change set; returns the changes, none for an unchanged stack.

    Raises:
        DeployError: the stack or its change set failed, or is in a state that needs a decision.
    """
    status = settled_status(cloudformation, stack_name, poll_seconds)
    if status == "ROLLBACK_COMPLETE":
        # Only after a failed creation; such a stack has no resources and can only be deleted.
        cloudformation.delete_stack(StackName=stack_name)
        status = settled_status(cloudformation, stack_name, poll_seconds)
    is_new = status in (None, "REVIEW_IN_PROGRESS")
    if not is_new and status not in UPDATABLE:
        command = "continue-update-rollback" if status == "UPDATE_ROLLBACK_FAILED" else "delete-stack"
        raise DeployError(
            f"Stack {stack_name} is in state {status} and cannot be updated. Check its events in the CloudFormation "
            f"console, run `aws cloudformation {command} --stack-name {stack_name}`, then deploy again."
        )
    token = f"deploy-{uuid.uuid4()}"
    try:
        cloudformation.create_change_set(
            StackName=stack_name,
            ChangeSetName=token,
            ChangeSetType="CREATE" if is_new else "UPDATE",
            TemplateBody=template,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        changes = await_change_set(cloudformation, stack_name, token, poll_seconds)
        if not changes:
            return []
        cloudformation.execute_change_set(ChangeSetName=token, StackName=stack_name, ClientRequestToken=token)
    except ClientError as error:
        raise DeployError(
            f"Stack {stack_name}: {error}. If another deployment is in progress, deploy again when it has ended."
        ) from None
    status = settled_status(cloudformation, stack_name, poll_seconds)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise DeployError(
            "\n".join([f"Stack {stack_name} failed ({status}):", *failures(cloudformation, stack_name, token), WAY_OUT])
        )
    return changes


def settled_status(cloudformation: CloudFormationClient, stack_name: str, poll_seconds: float) -> str | None:
    """State of a stack after its operation in progress has ended; None if it does not exist.

    Raises:
        DeployError: an operation is still in progress after `DEADLINE_SECONDS`.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            status = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]["StackStatus"]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        if status == "DELETE_COMPLETE":
            return None
        # A stack in review has only a change set: no operation is in progress.
        if status == "REVIEW_IN_PROGRESS" or not status.endswith("_IN_PROGRESS"):
            return status
        if time.monotonic() > deadline:
            raise DeployError(
                f"Stack {stack_name} is still in state {status} after {DEADLINE_SECONDS / 60:.0f} minutes."
            )
        time.sleep(poll_seconds)


def await_change_set(
    cloudformation: CloudFormationClient, stack_name: str, name: str, poll_seconds: float
) -> list[str]:
    """The changes of a complete change set; if there are none, the change set is deleted.

    Raises:
        DeployError: it failed.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        described = cloudformation.describe_change_set(ChangeSetName=name, StackName=stack_name)
        if described["Status"] == "CREATE_COMPLETE":
            pages = cloudformation.get_paginator("describe_change_set").paginate(
                ChangeSetName=name, StackName=stack_name
            )
            resources = [change["ResourceChange"] for page in pages for change in page["Changes"]]
            return [f"{resource['Action']} {resource['LogicalResourceId']}" for resource in resources]
        if described["Status"] == "FAILED" or time.monotonic() > deadline:
            reason = described.get("StatusReason", described["Status"])
            cloudformation.delete_change_set(ChangeSetName=name, StackName=stack_name)
            # Without an error code: these are the two messages of AWS for an empty change set.
            if "didn't contain changes" in reason or "No updates are to be performed" in reason:
                return []
            errors = validation_errors(cloudformation, stack_name)
            raise DeployError("\n".join([f"Change set of stack {stack_name} failed: {reason}", *errors, WAY_OUT]))
        time.sleep(poll_seconds)


def failures(cloudformation: CloudFormationClient, stack_name: str, token: str) -> list[str]:
    """One line for each resource that failed in the operation with this token, the first failure first."""
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_name)
    events = [event for page in pages for event in page["StackEvents"] if event.get("ClientRequestToken") == token]
    failed = [
        f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', event['ResourceStatus'])}"
        for event in reversed(events)
        if event["ResourceStatus"].endswith("_FAILED")
    ]
    # A resource is cancelled because another one failed.
    failed = [line for line in failed if "cancelled" not in line]
    return failed + validation_errors(cloudformation, stack_name)


def validation_errors(cloudformation: CloudFormationClient, stack_name: str) -> list[str]:
    """Validation errors of CloudFormation before any change (a taken name, ...), of the latest operation that has some.

    Stack events only have their number.
    """
    pages = cloudformation.get_paginator("describe_events").paginate(
        StackName=stack_name, Filters={"FailedEvents": True}
    )
    events = [event for page in pages for event in page["OperationEvents"]]
    errors = [event for event in events if event["EventType"] == "VALIDATION_ERROR"]
    if not errors:
        return []
    latest = max(errors, key=lambda event: event["Timestamp"])["OperationId"]
    return [
        f"  {event['LogicalResourceId']}: {event['ValidationStatusReason']}"
        for event in errors
        if event["OperationId"] == latest
    ]

"""A template without its missing resources does not change the others."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from sluice.aws import sessions
from sluice.deployment import DeployError, deploy, drift, stacks
from sluice.deployment.template import load_template
from sluice.settings import load_settings

TEMPLATE: dict[str, Any] = load_template("""
Conditions: {Has: !Not [!Condition Other]}
Resources:
  Queue:
    Type: AWS::SQS::Queue
    DependsOn: [Dead, Role]
    Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn}, Url: !Ref Dead, Own: !Sub "x-${Environment}"}
  Dead: {Type: AWS::SQS::Queue, Properties: {QueueName: dead}}
  Role:
    Type: AWS::IAM::Role
    DependsOn: Dead
    Properties: {Resource: [!Sub "${Dead.Arn}/*", {"Fn::GetAtt": [Dead, Arn]}, !GetAtt Queue.Arn]}
Outputs: {Name: {Value: !Ref Dead}}
""")
URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/dead"
ARN = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:dead"
DEAD = drift.StackResource("Dead", "AWS::SQS::Queue", URL, {})


def test_what_refers_to_a_missing_resource_keeps_the_value_that_it_had() -> None:
    rest = drift.template_without(TEMPLATE, [DEAD])
    queue, role = rest["Resources"]["Queue"], rest["Resources"]["Role"]
    assert queue["Properties"] == {
        "RedrivePolicy": {"deadLetterTargetArn": {"Fn::Sub": ARN}},
        "Url": URL,
        "Own": {"Fn::Sub": "x-${Environment}"},
    }
    assert role["Properties"]["Resource"] == [
        {"Fn::Sub": f"{ARN}/*"},
        {"Fn::Sub": ARN},
        {"Fn::GetAtt": ["Queue", "Arn"]},
    ]
    assert (queue["DependsOn"], "DependsOn" in role) == (["Role"], False)
    assert rest["Outputs"] == {"Name": {"Value": URL}}
    assert rest["Conditions"] == {"Has": {"Fn::Not": [{"Condition": "Other"}]}}
    assert "Dead" in TEMPLATE["Resources"]


def test_a_template_keeps_one_resource_where_everything_is_missing() -> None:
    everything = [drift.StackResource(name, "AWS::SQS::Queue", name, {}) for name in TEMPLATE["Resources"]]
    assert drift.template_without(TEMPLATE, everything)["Resources"] == drift.PLACEHOLDER


def test_a_value_that_is_not_known_is_an_error_and_no_guess() -> None:
    key = drift.StackResource("Dead", "AWS::Glue::Job", "job", {})
    with pytest.raises(KeyError, match=r"Arn of AWS::Glue::Job \(Dead\)"):
        drift.template_without(TEMPLATE, [key])


@pytest.mark.parametrize("stack", deploy.STACKS)
def test_every_resource_of_a_template_can_be_looked_up_and_left_out(stack: str) -> None:
    template = load_template((deploy.TEMPLATES / f"{stack}.yaml").read_text())
    for name, resource in template["Resources"].items():
        assert resource["Type"] in drift.TYPES
        gone = drift.StackResource(name, resource["Type"], "arn:aws:x:y:z:name", {})
        assert name not in drift.template_without(template, [gone])["Resources"]


@pytest.mark.parametrize(
    ("status", "command"),
    [("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"), ("DELETE_FAILED", "delete-stack")],
)
def test_a_stack_without_updates_is_named_with_the_command_that_repairs_it(status: str, command: str) -> None:
    cloudformation = sessions.client_of("cloudformation", load_settings())
    with Stubber(cloudformation) as stub:
        stack = {"StackName": "sluice-dev-lake", "StackStatus": status, "CreationTime": 0}
        stub.add_response("describe_stacks", {"Stacks": [stack]})
        with pytest.raises(DeployError, match=f"`aws cloudformation {command} --stack-name sluice-dev-lake`"):
            stacks.deploy_stack(cloudformation, "sluice-dev-lake", "", {}, {}, 0)


@pytest.mark.parametrize("status", ["IMPORT_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_that_something_was_imported_into_takes_the_next_deploy(status: str) -> None:
    cloudformation = sessions.client_of("cloudformation", load_settings())
    with Stubber(cloudformation) as stub:
        stack = {"StackName": "sluice-dev-lake", "StackStatus": status, "CreationTime": 0}
        stub.add_response("describe_stacks", {"Stacks": [stack]})
        stub.add_response("create_change_set", {})
        stub.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": "didn't contain changes"})
        stub.add_response("delete_change_set", {})
        assert stacks.deploy_stack(cloudformation, "sluice-dev-lake", "{}", {}, {}, 0) == []

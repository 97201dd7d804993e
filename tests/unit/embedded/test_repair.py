"""What is repaired is what the template says, whichever way it says it."""

from __future__ import annotations

import pytest
import yaml

from sluice.deployment.repair import lifecycle_rule
from sluice.deployment.template import load_template, resolve

TEMPLATE = """
Resources:
  Bucket:
    Properties:
      BucketName: !Ref LakeBucket
      Names: [!Sub "x-${Environment}-y", !Sub "${AWS::Region}-${Environment}", !GetAtt Bucket.Arn]
      Long: {"Fn::Sub": "${LakeBucket}"}
      Version: "2012-10-17"
      Chosen: !If [Yes, !Ref Other, {Nested: !Ref Environment}]
"""


def test_short_forms_and_parameters_are_written_out() -> None:
    properties = load_template(TEMPLATE)["Resources"]["Bucket"]["Properties"]
    resolved = resolve(properties, {"LakeBucket": "lake", "Environment": "dev"})
    assert resolved["BucketName"] == "lake"
    assert resolved["Names"] == ["x-dev-y", {"Fn::Sub": "${AWS::Region}-dev"}, {"Fn::GetAtt": ["Bucket", "Arn"]}]
    assert resolved["Long"] == "lake"
    assert resolved["Version"] == "2012-10-17"
    assert resolved["Chosen"]["Fn::If"][1:] == [{"Ref": "Other"}, {"Nested": "dev"}]


def test_a_template_can_run_no_code() -> None:
    with pytest.raises(yaml.constructor.ConstructorError, match=r"could not determine a constructor"):
        load_template("a: !!python/object/apply:os.getcwd []")


def test_a_lifecycle_rule_says_the_same_to_the_api() -> None:
    rule = {"Id": "raw", "Status": "Enabled", "Prefix": "raw/", "ExpirationInDays": 365}
    expected = {"ID": "raw", "Status": "Enabled", "Filter": {"Prefix": "raw/"}, "Expiration": {"Days": 365}}
    assert lifecycle_rule(rule) == expected


def test_a_rule_of_a_kind_that_is_not_translated_is_not_dropped_in_silence() -> None:
    with pytest.raises(KeyError, match="Transitions"):
        lifecycle_rule({"Id": "raw", "Status": "Enabled", "Transitions": []})

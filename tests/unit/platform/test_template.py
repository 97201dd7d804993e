"""The alarm and the dashboard of infra/platform.yaml, and what its role may do."""

from __future__ import annotations

import json
import re
from typing import Any

from sluice.aws.tables.optimizers import role_name
from sluice.deployment.deploy import TEMPLATES, parameters_of
from sluice.deployment.template import load_template
from sluice.monitoring.metrics import UNITS
from sluice.settings import load_settings

TEMPLATE = load_template((TEMPLATES / "platform.yaml").read_text())
RESOURCES = TEMPLATE["Resources"]


def alarms() -> dict[str, dict[str, Any]]:
    """Name of an alarm, without the environment -> its properties."""
    found = [each["Properties"] for each in RESOURCES.values() if each["Type"] == "AWS::CloudWatch::Alarm"]
    return {each["AlarmName"]["Fn::Sub"].removeprefix("sluice-${Environment}-"): each for each in found}


def test_the_only_alarm_is_that_of_a_silent_watch_and_it_sends() -> None:
    assert list(alarms()) == ["watch-silent"]
    assert "AlarmActions" in alarms()["watch-silent"]
    assert alarms()["watch-silent"]["TreatMissingData"] == "breaching"


def test_the_dashboard_shows_every_alarm_and_every_metric() -> None:
    body = json.loads(RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    shown = body["widgets"][0]["properties"]["alarms"]
    assert sorted(each.partition("alarm:sluice-${Environment}-")[2] for each in shown) == sorted(alarms())
    searched = re.findall(r'MetricName="(\w+)"', json.dumps(body).replace('\\"', '"'))
    assert sorted(searched) == sorted(UNITS)


def test_the_role_of_table_optimizers_exists_for_glue_only_and_for_tables() -> None:
    role = RESOURCES["TableOptimizerRole"]
    assert TEMPLATE["Conditions"][role["Condition"]] == {"Fn::Equals": [{"Ref": "TableMaintenance"}, "glue"]}
    assert parameters_of((TEMPLATES / "platform.yaml").read_text(), load_settings())["TableMaintenance"] == "airflow"
    name = role["Properties"]["RoleName"]["Fn::Sub"]
    assert name == role_name(load_settings().model_copy(update={"environment": "${Environment}"}))
    (policy,) = role["Properties"]["Policies"]
    allowed = policy["PolicyDocument"]["Statement"]
    assert [each["Effect"] for each in allowed] == ["Allow"] * len(allowed)
    objects, bucket, tables, logs = allowed
    assert objects["Action"] == ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    assert objects["Resource"]["Fn::Sub"].endswith(":s3:::${LakeBucket}/curated/*")
    assert (bucket["Action"], bucket["Condition"]) == ("s3:ListBucket", {"StringLike": {"s3:prefix": "curated/*"}})
    assert tables["Action"] == ["glue:GetTable", "glue:UpdateTable"]
    reached = [each["Fn::Sub"].rpartition(":")[2] for each in tables["Resource"]]
    assert reached == ["catalog", "database/${GlueDatabase}", "table/${GlueDatabase}/*"]
    assert all(":log-group:/aws-glue/iceberg-" in each["Fn::Sub"] for each in logs["Resource"])

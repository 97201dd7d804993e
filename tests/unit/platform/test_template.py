"""The alarms of infra/platform.yaml and the table of pipelines speak of the same; what its role may do."""

from __future__ import annotations

import json
import re
from typing import Any

from sluice.aws.tables.optimizers import role_name
from sluice.deployment.deploy import TEMPLATES, parameters_of
from sluice.deployment.template import load_template
from sluice.monitoring.metrics import UNITS
from sluice.monitoring.pipelines import QUEUE_AGE_MAX_SECONDS, STREAM_LAG_MAX_SECONDS, Pipeline, pipelines
from sluice.settings import load_settings

TEMPLATE = load_template((TEMPLATES / "platform.yaml").read_text())
RESOURCES = TEMPLATE["Resources"]
KINDS = {
    "stale": ("StaleDags", 0),
    "failed-tasks": ("FailedTasks", 0),
    "dead-letters": ("DeadLetters", 0),
    "queue-age": ("QueueAge", QUEUE_AGE_MAX_SECONDS),
    "stream-lag": ("StreamLag", STREAM_LAG_MAX_SECONDS),
}


def alarms() -> dict[str, dict[str, Any]]:
    """Name of an alarm, without the environment -> its properties."""
    found = [each["Properties"] for each in RESOURCES.values() if each["Type"] == "AWS::CloudWatch::Alarm"]
    return {each["AlarmName"]["Fn::Sub"].removeprefix("sluice-${Environment}-"): each for each in found}


def wanted(pipeline: Pipeline) -> list[str]:
    """Kinds of alarm that a pipeline needs."""
    kinds = ["failed-tasks"]
    # Of a watch that is silent another alarm tells: it cannot say so itself.
    if pipeline.name != "platform":
        kinds.append("stale")
    if any(dag.queues for dag in pipeline.dags):
        kinds += ["dead-letters", "queue-age"]
    if any(dag.streams for dag in pipeline.dags):
        kinds.append("stream-lag")
    return kinds


def test_every_pipeline_has_its_alarms_and_there_is_no_other() -> None:
    expected = {f"{pipeline.name}-{kind}" for pipeline in pipelines(load_settings()) for kind in wanted(pipeline)}
    assert set(alarms()) - {"watch-silent"} == expected


def test_an_alarm_looks_at_the_metric_that_the_watch_sends_with_the_limit_it_has() -> None:
    for name, alarm in alarms().items():
        if name == "watch-silent":
            continue
        pipeline, _, kind = name.partition("-")
        metric, limit = KINDS[kind]
        assert (alarm["MetricName"], int(alarm["Threshold"])) == (metric, limit), name
        assert alarm["Dimensions"] == [
            {"Name": "Environment", "Value": {"Ref": "Environment"}},
            {"Name": "Pipeline", "Value": pipeline},
        ]
        assert alarm["Namespace"] == "Sluice"
        assert alarm["ComparisonOperator"] == "GreaterThanThreshold"


def test_no_alarm_but_that_of_the_silent_watch_sends_what_the_watch_has_said() -> None:
    assert [name for name, alarm in alarms().items() if "AlarmActions" in alarm] == ["watch-silent"]
    assert alarms()["watch-silent"]["TreatMissingData"] == "breaching"


def test_the_dashboard_shows_every_alarm_and_every_metric() -> None:
    body = json.loads(RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    shown = body["widgets"][0]["properties"]["alarms"]
    assert sorted(each.partition("alarm:sluice-${Environment}-")[2] for each in shown) == sorted(alarms())
    searched = re.findall(r'MetricName="(\w+)"', json.dumps(body).replace('\\"', '"'))
    assert sorted(searched) == sorted(UNITS)


def test_the_role_of_table_optimizers_is_there_for_glue_alone_and_reaches_only_tables() -> None:
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

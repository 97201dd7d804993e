"""The alarms of infra/platform.yaml and the table of pipelines speak of the same."""

from __future__ import annotations

import json
import re
from typing import Any

from sluice.deploy import TEMPLATES
from sluice.settings import load_settings
from sluice.template import load_template
from sluice.watch.metrics import UNITS
from sluice.watch.pipelines import QUEUE_AGE_MAX_SECONDS, STREAM_LAG_MAX_SECONDS, Pipeline, pipelines

RESOURCES = load_template((TEMPLATES / "platform.yaml").read_text())["Resources"]
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

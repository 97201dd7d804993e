"""The demo processes messages that were in the queues before it, too: a run takes a limited number of them."""

from __future__ import annotations

import pytest

from sluice.aws import sqs
from sluice.aws.sessions import client
from sluice.monitoring.pipelines import find_dag
from sluice.settings import Settings
from sluice_dev.demo import count_messages
from sluice_dev.samples.sample import Sample, Trigger


@pytest.mark.parametrize(
    "dag_id", ["dockerhub_aggregate", "modules_diagnostics", "accommodations_consolidate", "datasets_aggregate"]
)
def test_the_demo_counts_what_waits_for_each_dag_that_drains_a_queue(deployed: Settings, dag_id: str) -> None:
    sample = Sample([[Trigger("dockerhub_pull")], [Trigger(dag_id)]], "look")
    before = count_messages(deployed, sample)
    _, dag = find_dag(deployed, dag_id)
    for queue in dag.queues:
        client("sqs").send_message(QueueUrl=sqs.queue_url(queue), MessageBody="{}")
    assert count_messages(deployed, sample) == before + len(dag.queues) > before

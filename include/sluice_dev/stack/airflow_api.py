"""The part of Airflow's REST API that `demo` and `verify` need: trigger Dags, follow runs, read results of tasks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from sluice.core.console import time_text
from sluice.errors import SluiceError

ENDED = ("failed", "success")
UNDER_WAY = ("queued", "running")

TIMEOUT_SECONDS = 60.0
"""The API server is one process, which a machine with other work keeps waiting."""

CONNECT_RETRIES = 5
"""With growing pauses, 15 seconds in all: `sluice up` starts an API server that has ended again."""

PAGE_RUNS = 100


class AirflowApiError(SluiceError):
    """Airflow does not answer or refuses a request; the message says which and why."""


class DagRun(NamedTuple):
    """A run of a Dag, its times None until it has started or ended."""

    dag_id: str
    run_id: str
    state: str
    started: datetime | None
    ended: datetime | None


class AirflowApi:
    """A session of one user with an API server.

    Args:
        url: address of the API server, without a path.
        user: name of the user.
        password: the user's password.

    Raises:
        AirflowApiError: it does not answer, or refuses the user.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.client = httpx.Client(
            base_url=url,
            timeout=TIMEOUT_SECONDS,
            transport=httpx.HTTPTransport(retries=CONNECT_RETRIES),
            # No proxy of the environment, which would be used for 127.0.0.1 as well.
            trust_env=False,
        )
        token = self._ask("POST", "/auth/token", {"username": user, "password": password})["access_token"]
        self.client.headers["Authorization"] = f"Bearer {token}"

    def dags(self) -> dict[str, bool]:
        """Every parsed Dag, and whether it is paused."""
        answer = self._ask("GET", "/api/v2/dags?limit=100&exclude_stale=true")
        return {dag["dag_id"]: dag["is_paused"] for dag in answer["dags"]}

    def import_errors(self) -> list[str]:
        """`<file>: <last line of the error>` of every Dag file that cannot be read."""
        errors = self._ask("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in errors]

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, logical_date: datetime | None = None) -> str:
        """Make a run, by default without a logical date; returns its id."""
        moment = logical_date and time_text(logical_date)
        run = self._ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": moment, "conf": conf or {}})
        return str(run["dag_run_id"])

    def runs(self, dag_ids: Iterable[str], states: Iterable[str], since: datetime | None = None) -> list[DagRun]:
        """Runs of some Dags in some states.

        Args:
            dag_ids: the Dags.
            states: of `queued`, `running`, `success` and `failed`.
            since: only runs that ended then or later; None for all, also those that have not ended.
        """
        asked: dict[str, Any] = {"dag_ids": sorted(dag_ids), "states": list(states), "page_limit": PAGE_RUNS}
        if since:
            asked["end_date_gte"] = time_text(since)
        found: list[DagRun] = []
        while True:
            answer = self._ask("POST", "/api/v2/dags/~/dagRuns/list", asked | {"page_offset": len(found)})
            found += [_dag_run(run) for run in answer["dag_runs"]]
            if not answer["dag_runs"] or len(found) >= answer["total_entries"]:
                return found

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """Current state of one run."""
        return _dag_run(self._ask("GET", _path(dag_id, run_id)))

    def task_states(self, run: DagRun) -> dict[str, str]:
        """State of each task of a run; "" for none."""
        answer = self._ask("GET", f"{_path(run.dag_id, run.run_id)}/taskInstances?limit=100")
        return {each["task_id"]: each["state"] or "" for each in answer["task_instances"]}

    def returned(self, run: DagRun, task_id: str) -> Any:
        """Result of a task of a run; None if it was skipped or returned nothing."""
        path = f"{_path(run.dag_id, run.run_id)}/taskInstances/{task_id}/xcomEntries/return_value?deserialize=true"
        answer = self._ask("GET", path, missing=True)
        return answer and answer["value"]

    def log(self, run: DagRun, task_id: str, try_number: int = 1) -> str:
        """The log of a task as the web UI shows it, one event a line."""
        answer = self._ask("GET", f"{_path(run.dag_id, run.run_id)}/taskInstances/{task_id}/logs/{try_number}")
        return "\n".join(str(line["event"] if isinstance(line, dict) else line) for line in answer["content"])

    def _ask(self, method: str, path: str, body: Any = None, *, missing: bool = False) -> Any:
        try:
            answer = self.client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise AirflowApiError(
                f"Airflow at {self.client.base_url} does not answer ({type(error).__name__}: {error})"
            ) from None
        if missing and answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error:
            raise AirflowApiError(
                f"Airflow answers {answer.status_code} to {method} {answer.request.url}: {answer.text[:500]}"
            )
        return answer.json()


def _dag_run(run: dict[str, Any]) -> DagRun:
    started, ended = (datetime.fromisoformat(run[name]) if run[name] else None for name in ("start_date", "end_date"))
    return DagRun(run["dag_id"], run["dag_run_id"], run["state"], started, ended)


def _path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"

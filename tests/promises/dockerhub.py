"""Of dockerhub_pull each record is what Docker Hub says; of the others, a push of a repository, which is its group."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, ClassVar

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from dockerhub_account import DockerHubAccount, answer, key_of
from promises.subject import RANGE, Promise, Subject, Views, group
from sluice.aws import s3


class _DockerHub(Subject):
    @cached_property
    def account(self) -> DockerHubAccount:
        return DockerHubAccount(self.settings)


class DockerHubAggregate(_DockerHub):
    dag_id = "dockerhub_aggregate"
    steps = ("collect", "check_objects", "publish_aggregates")
    gate = "check_objects"
    publishes = tally_of = "publish_aggregates"
    batch_tally: ClassVar = {"records_in": 4, "published": 2, "duplicates": 1, "quarantined": 1}
    fewest_writes = 6

    def send(self, number: int, *, bad: bool = False) -> None:
        self._announce(*self._put(number, bad))

    def send_again(self, number: int) -> None:
        self._announce(self._key(number))

    def send_late(self, number: int) -> Callable[[], None]:
        return partial(self._announce, *self._put(number, bad=False))

    def _announce(self, *keys: str) -> None:
        self.account.send(self.account.notification(*keys))

    def _key(self, number: int, seconds: int = 0) -> str:
        return key_of(f"{_pushed(number):%Y_%m_%d_%H%M}{seconds:02}", _name(number))

    def _put(self, number: int, bad: bool) -> list[str]:
        self.account.put(
            f"{_pushed(number):%Y_%m_%d_%H%M%S}", number, 1000 + number, _text(_pushed(number)), _name(number)
        )
        if not bad:
            return [self._key(number)]
        s3.write_object(self.settings.lake_bucket, self._key(number, 59), b"<html>")
        return [self._key(number, 59), self._key(number)]

    def published(self) -> Views:
        names = sorted({_name(number) for number in self.delivered})
        return {name: self.account.shown(name) for name in names if "#latest_version" in self.account.items(name)}

    def expected(self, numbers: Iterable[int]) -> Views:
        views: Views = {}
        for number in sorted(numbers):
            pushed = _text(_pushed(number))
            before = views.get(_name(number), {"pushes": {}})
            views[_name(number)] = {
                "latest": pushed,
                "pushes": before["pushes"] | {pushed: (number, 1000 + number, pushed)},
                "months": {f"{_pushed(number):%Y-%m}": [{"star_count": number, "pull_count": 1000 + number}]},
            }
        return views


def _name(number: int) -> str:
    return f"r{group(number)}"


def _pushed(number: int) -> datetime:
    """When a record was pushed: in a month of its range."""
    months, minute = divmod(number, RANGE)
    return datetime(2000 + months // 12, months % 12 + 1, 14, 15, minute, tzinfo=UTC)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


class DockerHubRebuild(DockerHubAggregate):
    dag_id = "dockerhub_rebuild"
    steps = ("collect_month", "check_objects", "publish_aggregates")
    reads_anew = True
    # In raw/ there is one object of a key, however often it was written.
    batch_tally: ClassVar = {"records_in": 3, "published": 2, "duplicates": 0, "quarantined": 1}

    def send(self, number: int, *, bad: bool = False) -> None:
        self._put(number, bad)

    def send_again(self, number: int) -> None:
        self._put(number, bad=False)

    def send_late(self, number: int) -> Callable[[], None]:
        return partial(self.send, number)

    def run_name(self, run: str) -> str:
        return f"rebuild__{run}"

    def arguments(self, run: str) -> dict[str, Any]:
        return super().arguments(run) | {"month": _pushed(self.last_sent()), "rebuild": True}


class DockerHubPull(_DockerHub):
    dag_id = "dockerhub_pull"
    steps = ("fetch", "check_answers", "publish_answers")
    gate = "check_answers"
    publishes = tally_of = "publish_answers"
    reads_anew = True
    batch_tally: ClassVar = {"records_in": 2, "published": 1, "duplicates": 0, "quarantined": 1}
    fewest_writes = 4
    exceptions: ClassVar = {
        Promise.DUPLICATES: "a pull observes the current state: no observation is delivered to it",
        Promise.LATE: "a pull observes the current state: no observation can arrive late",
    }
    hub: ClassVar[HTTPServer]

    @classmethod
    def settings_changed(cls) -> dict[str, object]:
        cls.hub = HTTPServer(host="127.0.0.1", port=0)
        cls.hub.start()
        return {
            "dockerhub_url": cls.hub.url_for("").rstrip("/"),
            "dockerhub_repositories": "localstack/localstack,localstack/other",
        }

    def close(self) -> None:
        self.hub.stop()

    def deploy(self) -> None:
        super().deploy()
        self.number, self.html = 0, b""
        self.hub.expect_request(re.compile(".*")).respond_with_handler(self._answer)

    def _answer(self, request: Request) -> Response:
        name = request.path.rstrip("/").rpartition("/")[2]
        body = answer(self.number, 1000 + self.number, _text(_pushed(self.number)), name)
        return Response(self.html if name == "other" and self.html else body)

    def send(self, number: int, *, bad: bool = False) -> None:
        self.number = number
        if bad:
            self.html = f"<html>{number}".encode()

    def send_again(self, number: int) -> None:
        pass

    def send_late(self, number: int) -> Callable[[], None]:
        raise NotImplementedError(self.exceptions[Promise.LATE])

    def published(self) -> Views:
        keys = self.account.keys("raw/dockerhub/namespace=localstack/name=localstack/")
        return {
            "raw objects": sorted(self.account.rows(key)[0]["star_count"] for key in keys),
            "dockerhub_history": sorted(
                row["star_count"] for row in self.account.history() if row["name"] == "localstack"
            ),
        }

    def expected(self, numbers: Iterable[int]) -> Views:  # noqa: ARG002
        """One observation of each run that published, independent of the state between two runs."""
        sent, observed, published = 0, dict[str, int](), []
        for note in self._notes():
            sent = note.get("sent", sent)
            if note.get("done") == "fetch":
                observed[note["run"]] = sent
            elif note.get("done") == "publish_answers" and note["run"] in observed:
                published.append(observed.pop(note["run"]))
        return {"raw objects": sorted(set(published)), "dockerhub_history": sorted(published)}


SUBJECTS = (DockerHubPull, DockerHubAggregate, DockerHubRebuild)

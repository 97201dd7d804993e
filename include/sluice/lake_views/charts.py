"""Series for the charts of a table, from a bounded number of rows: pure but for the reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sluice.aws.tables import definitions
from sluice.lake_views import quality
from sluice.lake_views.overview import RUNS_READ
from sluice.monitoring import history
from sluice.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_READ = 200_000
"""Maximum rows of a table that charts read, unordered; for a larger one a chart says that it shows a part."""

POINTS = 200
"""Maximum points of a line."""

EVENT_HOURS = 48
TYPES_SHOWN = 8
WORST_MODULES = 8
BINS = 20


def read_charts(settings: Settings, name: str, now: datetime) -> list[dict[str, Any]]:
    """The charts of a table: `title`, `kind` (`line` or `bar`), `unit`, `labels` and `series` (name -> values).

    A chart of rows of the table also has `is_whole`, whether it shows all of them, and `rows_read`.

    Raises:
        TableMissing: there is no such table.
    """
    makers: dict[str, Callable[[Settings, datetime], list[dict[str, Any]]]] = {
        "dockerhub_history": _pulls,
        "events": _events,
        "module_success_rates": _rates,
        "accommodations_current": _accommodations,
    }
    return makers[name](settings, now) if name in makers else []


def _scan(settings: Settings, name: str, columns: Iterable[str], where: str = "") -> Any:
    row_filter: Any = {"row_filter": where} if where else {}
    table = definitions.load(settings, name)
    # One more than is drawn, to know whether there are more.
    return table.scan(**row_filter, selected_fields=tuple(columns), limit=ROWS_READ + 1).to_arrow()


def _rows(settings: Settings, name: str, columns: Iterable[str], where: str = "") -> tuple[list[dict[str, Any]], bool]:
    found = _scan(settings, name, columns, where)
    rows: list[dict[str, Any]] = found.slice(0, ROWS_READ).to_pylist()
    return rows, len(found) <= ROWS_READ


def of_rows(charts: Iterable[dict[str, Any]], *, is_whole: bool) -> list[dict[str, Any]]:
    """Charts with whether they show all rows of their table, or how many of them."""
    return [each | {"is_whole": is_whole, "rows_read": ROWS_READ} for each in charts]


def chart(title: str, kind: str, unit: str, labels: list[str], series: Mapping[str, list[Any]]) -> dict[str, Any]:
    """A chart as plain values."""
    return {"title": title, "kind": kind, "unit": unit, "labels": labels, "series": dict(series)}


def _pulls(settings: Settings, now: datetime) -> list[dict[str, Any]]:
    since = (now - timedelta(days=31)).isoformat()
    columns = ("observed_at", "namespace", "name", "star_count", "pull_count")
    rows, is_whole = _rows(settings, "dockerhub_history", columns, f"observed_at >= '{since}'")
    return of_rows(popularity(rows), is_whole=is_whole)


def popularity(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stars and pulls over time, a line for each repository; of many points every n-th one and the last."""
    ordered = sorted(rows, key=lambda row: row["observed_at"])
    times = list(dict.fromkeys(row["observed_at"] for row in ordered))
    step = max(1, -(-len(times) // POINTS))
    kept = times[::-1][::step][::-1]
    places = {at: place for place, at in enumerate(kept)}
    labels = [f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" for at in kept]
    found = []
    for title, column in (("Pulls", "pull_count"), ("Stars", "star_count")):
        series: dict[str, list[Any]] = {}
        for row in ordered:
            line = series.setdefault(f"{row['namespace']}/{row['name']}", [None] * len(kept))
            if row["observed_at"] in places:
                line[places[row["observed_at"]]] = row[column]
        found.append(chart(f"{title} by repository", "line", column.removesuffix("_count") + "s", labels, series))
    return found


def _events(settings: Settings, now: datetime) -> list[dict[str, Any]]:
    end = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    start = end - timedelta(hours=EVENT_HOURS)
    where = f"created_datetime >= '{start.isoformat()}' and created_datetime < '{end.isoformat()}'"
    found = _scan(settings, "events", ("created_datetime", "event_type"), where)
    runs = history.read_runs_of(settings.runs_table, "events_hourly", now - timedelta(days=7), RUNS_READ)
    by_type = events_by_type(_hourly(found.slice(0, ROWS_READ)), start)
    return [*of_rows([by_type], is_whole=len(found) <= ROWS_READ), *shares(runs)]


def _hourly(events: pa.Table) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    hours = events.set_column(0, "hour", pc.floor_temporal(events["created_datetime"], unit="hour"))
    rows: list[dict[str, Any]] = hours.group_by(["hour", "event_type"]).aggregate([([], "count_all")]).to_pylist()
    return rows


def events_by_type(rows: Iterable[Mapping[str, Any]], start: datetime) -> dict[str, Any]:
    """Events of each hour by their type (`hour`, `event_type`, `count_all`); rare types together."""
    counted = list(rows)
    types: Counter[str] = Counter()
    for row in counted:
        types[row["event_type"] or "(no type)"] += row["count_all"]
    shown = [name for name, _ in types.most_common(TYPES_SHOWN)]
    series: dict[str, list[Any]] = {name: [0] * EVENT_HOURS for name in shown}
    if len(types) > len(shown):
        series["others"] = [0] * EVENT_HOURS
    for row in counted:
        name = row["event_type"] or "(no type)"
        hour = int((row["hour"] - start).total_seconds() // 3600)
        series[name if name in shown else "others"][hour] += row["count_all"]
    labels = [f"{start + timedelta(hours=hour):%m-%d %H:00}" for hour in range(EVENT_HOURS)]
    first = next((hour for hour in range(EVENT_HOURS) if any(line[hour] for line in series.values())), 0)
    cut = {name: line[first:] for name, line in series.items()}
    return chart("Events by hour and type", "bar", "events", labels[first:], cut)


def shares(runs: Iterable[history.RunRecord]) -> list[dict[str, Any]]:
    """The share of duplicates of each hour, and how often it was processed again, as for late events."""
    newest: dict[str, history.RunRecord] = {}
    listed = [run for run in runs if run.tally and run.partition]
    counted = Counter(run.partition for run in listed)
    for run in listed:
        newest.setdefault(run.partition, run)
    hours = sorted(newest)[-EVENT_HOURS:]
    tallies = [newest[hour].tally for hour in hours]
    duplicates = [
        round(100 * each["duplicates"] / each["records_in"], 2) if each["records_in"] else None for each in tallies
    ]
    again = [counted[hour] - 1 for hour in hours]
    labels = [hour[5:16].replace("T", " ") for hour in hours]
    return [
        chart("Duplicates by hour", "line", "% of records", labels, {"duplicates": duplicates}),
        chart("Hours processed again, as for late events", "bar", "times", labels, {"processed again": again}),
    ]


def _rates(settings: Settings, now: datetime) -> list[dict[str, Any]]:
    since = (now - timedelta(days=31)).isoformat()
    columns = ("module", "timestamp", "success_rate", "published_at")
    rows, is_whole = _rows(settings, "module_success_rates", columns, f"published_at >= '{since}'")
    return of_rows(success_rates(rows), is_whole=is_whole)


def success_rates(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Distribution of the newest rate of each diagnostic, and the modules with the lowest mean over time."""
    newest: dict[tuple[str, Any], Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda each: each["published_at"]):
        newest[row["module"], row["timestamp"]] = row
    bins = [0] * BINS
    width = 100 // BINS
    by_module: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in newest.values():
        bins[min(BINS - 1, int(row["success_rate"] // width))] += 1
        by_module[row["module"]].append((int(row["timestamp"]), row["success_rate"]))
    labels = [f"{place * width}-{(place + 1) * width} %" for place in range(BINS)]
    means = {name: sum(rate for _, rate in points) / len(points) for name, points in by_module.items()}
    worst = sorted(means, key=lambda name: (means[name], name))[:WORST_MODULES]
    length = max((len(by_module[name]) for name in worst), default=0)
    series = {
        name: [round(rate, 2) for _, rate in sorted(by_module[name])] + [None] * (length - len(by_module[name]))
        for name in worst
    }
    numbers = [f"diagnostic {number + 1}" for number in range(length)]
    return [
        chart("Success rates of diagnostics", "bar", "diagnostics", labels, {"diagnostics": bins}),
        chart("Modules with the lowest mean rate", "line", "%", numbers, series),
    ]


def _accommodations(settings: Settings, now: datetime) -> list[dict[str, Any]]:  # noqa: ARG001
    rows, is_whole = _rows(settings, "accommodations_current", ("partner_name",))
    gates = history.read_gate_history(settings.runs_table, "accommodations/consolidate", quality.RUNS_SHOWN)
    measures = [(quality.read_report(settings, gate) or {}).get("measures", {}) for gate in gates]
    winners = by_partner(row["partner_name"] for row in rows)
    return [*of_rows([winners], is_whole=is_whole), dropped(measures)]


def by_partner(partners: Iterable[str]) -> dict[str, Any]:
    """Accommodations of the current catalogue by winning partner."""
    counted = Counter(partners).most_common(BINS)
    labels = [name for name, _ in counted]
    series = {"accommodations": [count for _, count in counted]}
    return chart("Accommodations by winning partner", "bar", "accommodations", labels, series)


def dropped(measures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Records that the newest batches did not publish, by reason."""
    totals: Counter[str] = Counter()
    for each in measures:
        for name in ("duplicates", "unlisted", "blocked", "quarantined"):
            totals[name] += int(each.get(name) or 0)
    words = {
        "duplicates": "a better record won",
        "unlisted": "partner on no list",
        "blocked": "partner blocked",
        "quarantined": "rejected",
    }
    labels = [words[name] for name in words]
    return chart("Records dropped by reason", "bar", "records", labels, {"records": [totals[name] for name in words]})

"""One gate: expectations over a small frame, a report for people, an error that stops the run.

Small data is validated as records, large data as a one-row frame of measures computed elsewhere.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypeAlias, TypedDict

from sluice.aws import s3
from sluice.core import documents
from sluice.core.quality import GateFailed, words
from sluice.core.quality.report import Finding, GateReport, render
from sluice.core.run import Run

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.datasource.fluent import PandasDatasource
    from great_expectations.expectations.expectation import Expectation

log = logging.getLogger(__name__)

EXAMPLES = 5
"""Unexpected values that a message shows."""

Row: TypeAlias = Mapping[str, object]
"""What a gate validates: a record, or the measures of data that is too large for it; column -> value."""


class GateResult(TypedDict):
    """What a gate returns for XCom; `warnings` are texts, `report` is its s3:// address."""

    gate: str
    rows: int
    expectations: NotRequired[int]
    warnings: NotRequired[list[str]]
    report: NotRequired[str]


def run_gate(
    run: Run,
    gate: str,
    rows: Sequence[Row],
    columns: Sequence[str],
    expectations: Callable[[], Sequence[Expectation]],
) -> GateResult:
    """Validate rows, write the report below `quality/<pipeline>/<gate>/`, and let only good data pass.

    Args:
        run: the run.
        gate: name of the gate within its pipeline.
        rows: what to validate; may be empty, then every expectation on values passes.
        columns: the columns that the expectations name.
        expectations: makes the Great Expectations objects; `severity="warning"` only warns.

    Raises:
        GateFailed: with every failed critical expectation in the message.
    """
    name = f"{run.pipeline}/{gate}"
    findings = validate(name, rows, columns, expectations)
    failed = [each for each in findings if not each.passed and each.severity == "critical"]
    warnings = [each for each in findings if not each.passed and each.severity != "critical"]
    measures = dict(rows[0]) if len(rows) == 1 else {}
    report = GateReport(name, run.slug, len(rows), passed=not failed, measures=measures, findings=findings)
    documents.save(run.bucket, run.report_key(gate, "json"), report)
    page = render(report).encode()
    address = s3.write_object(run.bucket, run.report_key(gate, "html"), page, "text/html; charset=utf-8")
    for each in warnings:
        log.warning("gate %s warns: %s", name, each)
    if failed:
        listed = "\n".join(f"  {each}" for each in failed)
        raise GateFailed(
            f"gate {name} failed {len(failed)} of {len(findings)} expectations on {len(rows)} rows,"
            f" nothing was published:\n{listed}\nreport: {address}",
            report=address,
        )
    log.info("gate %s passed %d expectations on %d rows: %s", name, len(findings) - len(warnings), len(rows), address)
    return {
        "gate": name,
        "rows": len(rows),
        "expectations": len(findings),
        "warnings": [str(each) for each in warnings],
        "report": address,
    }


def import_great_expectations() -> None:
    """Import Great Expectations, which takes seconds, without its progress output and telemetry."""
    # Both before the first import.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    importlib.import_module("great_expectations.expectations")


def validate(
    name: str, rows: Sequence[Row], columns: Sequence[str], expectations: Callable[[], Sequence[Expectation]]
) -> list[Finding]:
    """The finding of each expectation on the rows, in the order given."""
    import_great_expectations()
    results = _results(name, rows, columns, expectations(), "BOOLEAN_ONLY")
    if not all(each.success for each in results):
        # Unexpected values are computed only here, after a failure: it doubles the time of a validation.
        results = _results(name, rows, columns, expectations(), "SUMMARY")
    return [_finding(each, rows) for each in sorted(results, key=_position)]


def _results(
    name: str,
    rows: Sequence[Row],
    columns: Sequence[str],
    expectations: Sequence[Expectation],
    result_format: Literal["BOOLEAN_ONLY", "SUMMARY"],
) -> Sequence[ExpectationValidationResult]:
    import great_expectations as gx
    import pandas as pd

    for position, each in enumerate(expectations):
        # A suite returns results in an order of its own, and merges equal expectations.
        each.meta = {"position": position}
    asset = _data_source().add_dataframe_asset(f"{name} {next(_VALIDATIONS)}")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
        {"dataframe": pd.DataFrame(rows, columns=list(columns))}
    )
    suite = gx.ExpectationSuite(name, expectations=list(expectations))
    results: Sequence[ExpectationValidationResult] = batch.validate(suite, result_format=result_format).results
    _data_source().delete_asset(asset.name)
    return results


_VALIDATIONS = itertools.count()


@functools.cache
def _data_source() -> PandasDatasource:
    """The data source of this process, or of its parent: creating its context takes as long as a gate."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    # Without data docs, which would create a temporary folder for each gate.
    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    config = DataContextConfig(store_backend_defaults=stores, progress_bars=ProgressBarsConfig(globally=False))
    return gx.get_context(mode="ephemeral", project_config=config).data_sources.add_pandas("rows")


def _position(result: ExpectationValidationResult) -> int:
    config = result.expectation_config
    assert config is not None
    return int(config.meta["position"])


def _finding(result: ExpectationValidationResult, rows: Sequence[Row]) -> Finding:
    config = result.expectation_config
    assert config is not None
    arguments = ", ".join(
        f"{key}={value}" for key, value in config.kwargs.items() if key != "batch_id" and value not in (None, [])
    )
    return Finding(
        expectation=f"{config.type}({arguments})",
        severity=str(getattr(config.severity, "value", config.severity)),
        passed=bool(result.success),
        observed="" if result.success else _observed(result),
        expected=words.expected(config.type, config.kwargs),
        found=words.found(config.kwargs, rows),
        unit=words.unit_of(str(config.kwargs.get("column") or "")),
        examples=() if result.success else tuple(map(str, _examples(result))),
    )


def _observed(result: ExpectationValidationResult) -> str:
    """The finding in words: the error if the expectation could not be computed, examples if it failed."""
    info = result.exception_info or {}
    nested = [info] if "raised_exception" in info else list(info.values())
    messages = [each["exception_message"] for each in nested if each.get("raised_exception")]
    if messages:
        return f"could not be computed: {messages[0]}"
    found = result.result
    if "unexpected_count" in found:
        examples = _examples(result)
        return f"{found['unexpected_count']} of {found['element_count']} values unexpected, such as {examples}"
    return f"observed {found.get('observed_value')}"


def _examples(result: ExpectationValidationResult) -> list[Any]:
    """A few values that violate an expectation; numbers of numpy as those of Python, for readability."""
    return [
        tuple(map(_plain, each)) if isinstance(each, tuple) else _plain(each)
        for each in result.result.get("partial_unexpected_list", [])[:EXAMPLES]
    ]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value

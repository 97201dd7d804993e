"""The report of one gate on one run, and its page.

Great Expectations' own pages load their style from elsewhere and are unstyled offline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The outcome of one expectation, as a report shows it.

    Attributes:
        expectation: what was expected, with its arguments.
        severity: `critical` stops the run, `warning` is reported.
        passed: whether it holds.
        observed: the finding in one line if it failed; else empty.
        expected: the expectation in words.
        found: the observed values, in words and with their unit, also if it passed.
        unit: of the values; "" for counts and texts.
        examples: a few values that violate it.
    """

    expectation: str
    severity: str
    passed: bool
    observed: str
    expected: str = ""
    found: str = ""
    unit: str = ""
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.expectation}: {self.observed}" if self.observed else self.expectation


@dataclass(frozen=True)
class GateReport:
    """Results of a gate in one run, as stored below `quality/`.

    Attributes:
        gate: its name, `<pipeline>/<step>`.
        run: the run as a part of a key.
        rows: how many were validated.
        passed: whether no critical expectation failed.
        measures: the row of measures, if the gate validates one.
        findings: one for each expectation.
    """

    gate: str
    run: str
    rows: int
    passed: bool
    measures: Mapping[str, object]
    findings: Sequence[Finding]


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ gate }} · {{ run }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
  :root { color-scheme: light dark; --text: #1f2933; --muted: #52606d; --line: #e4e7eb; --back: #fff;
    --passed: #0b6e4f; --failed: #b91c1c; --warned: #9a5b00; }
  @media (prefers-color-scheme: dark) { :root { --text: #e4e7eb; --muted: #9aa5b1; --line: #3e4c59; --back: #16181d;
    --passed: #4ade80; --failed: #f87171; --warned: #fbbf24; } }
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
    color: var(--text); background: var(--back); }
  h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 2rem; } .meta, small { color: var(--muted); }
  table { border-collapse: collapse; width: 100%; margin-top: 1rem; }
  th, td { text-align: left; padding: .45rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
  code { font-size: .9em; overflow-wrap: anywhere; }
  .passed { color: var(--passed); } .failed { color: var(--failed); }
  .warned { color: var(--warned); } .failed, .warned { font-weight: 600; }
</style></head><body>
{% set verdict = 'passed' if passed else 'failed' %}
<h1>Gate {{ gate }}: <span class="{{ verdict }}">{{ verdict }}</span></h1>
<p class="meta">{{ about_run }} · {{ rows }} rows · {{ summary }}</p>
<table><thead><tr><th>Outcome</th><th>Expected</th><th>Found</th><th>Severity</th></tr></thead><tbody>
{% for each in findings %}
{% set outcome = 'passed' if each.passed else ('failed' if each.severity == 'critical' else 'warned') %}
<tr><td class="{{ outcome }}">{{ outcome }}</td>
<td>{{ each.expected or each.expectation }}{% if each.expected %}<br><small><code>{{ each.expectation }}</code></small>
{% endif %}</td>
<td>{{ each.found }}{% if each.observed %}{% if each.found %}<br>{% endif %}{{ each.observed }}{% endif %}</td>
<td>{{ each.severity }}</td></tr>
{% endfor %}
</tbody></table>
{% if measures %}
<h2>Measures</h2>
<table><thead><tr><th>Measure</th><th>Value</th></tr></thead><tbody>
{% for name, value in measures.items() %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table>
{% endif %}
</body></html>
"""

_TIME_OF_RUN = re.compile(r"^([a-z_]+)__(\d{4}-\d{2}-\d{2})T(\d{2})-(\d{2})-(\d{2})(?:\.\d+)?_00-00")


def about_run(run: str) -> str:
    """A run as a part of a key, in words: `Run manual__..., manual, 2026-11-21 02:13:00 UTC`."""
    found = _TIME_OF_RUN.match(run)
    if not found:
        return f"Run {run}"
    kind, day, *time = found.groups()
    return f"Run {run}: {kind.replace('_', ' ')}, {day} {':'.join(time)} UTC"


def summary(findings: Sequence[Finding]) -> str:
    """`8 expectations: 7 passed, 1 warned`."""
    passed = sum(each.passed for each in findings)
    failed = sum(not each.passed and each.severity == "critical" for each in findings)
    warned = len(findings) - passed - failed
    named = ((failed, "failed"), (warned, "warned"), (passed, "passed"))
    counts = [f"{count} {name}" for count, name in named if count]
    return f"{len(findings)} expectations: {', '.join(counts)}" if counts else "no expectations"


def render(report: GateReport) -> str:
    """HTML of a gate's report; loads nothing from the network."""
    from jinja2 import Environment

    words = {"about_run": about_run(report.run), "summary": summary(report.findings)}
    return Environment(autoescape=True).from_string(PAGE).render(vars(report) | words)

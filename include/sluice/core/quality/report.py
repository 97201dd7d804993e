"""The page of one gate's run. Great Expectations' own pages load their style from elsewhere and are bare offline."""

from __future__ import annotations

from typing import Any

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ gate }} · {{ run }}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1f2933; }
  h1 { font-size: 1.3rem; } .meta { color: #52606d; }
  table { border-collapse: collapse; width: 100%; margin-top: 1rem; }
  th, td { text-align: left; padding: .45rem .6rem; border-bottom: 1px solid #e4e7eb; vertical-align: top; }
  code { font-size: .9em; overflow-wrap: anywhere; }
  .passed { color: #0b6e4f; } .failed { color: #b91c1c; }
  .warned { color: #9a5b00; } .failed, .warned { font-weight: 600; }
</style></head><body>
{% set verdict = 'passed' if passed else 'failed' %}
<h1>Gate {{ gate }}: <span class="{{ verdict }}">{{ verdict }}</span></h1>
<p class="meta">Run {{ run }} · {{ rows }} rows · {{ findings | length }} expectations</p>
<table><thead><tr><th>Outcome</th><th>Expectation</th><th>Severity</th><th>Found</th></tr></thead><tbody>
{% for each in findings %}
{% set outcome = 'passed' if each.passed else ('failed' if each.severity == 'critical' else 'warned') %}
<tr><td class="{{ outcome }}">{{ outcome }}</td><td><code>{{ each.expectation }}</code></td>
<td>{{ each.severity }}</td><td>{{ each.observed }}</td></tr>
{% endfor %}
</tbody></table></body></html>
"""


def render(document: dict[str, Any]) -> str:
    """HTML of a gate's document: `gate`, `run`, `rows`, `passed`, `findings`. Needs nothing from the network."""
    from jinja2 import Environment

    return Environment(autoescape=True).from_string(PAGE).render(document)

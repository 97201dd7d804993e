"""JSON functions of the engine for the SQL of the pipeline (`sql/consolidate.sql`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluice.core.strict_json import is_too_deep
from sluice.engines.duckdb import create_is_json
from sluice.pipelines.accommodations.json_scan import quote_numbers

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

JSON_FUNCTIONS = r"""
-- A text with so many brackets is longer than most records.
CREATE TEMP MACRO is_json_record(text) AS CASE
    WHEN NOT is_json(text) THEN FALSE
    WHEN strlen(text) > 1000 THEN CASE
        WHEN length(text) - length(translate(text, '[{', '')) > 500 THEN NOT is_too_deep(text) ELSE TRUE END
    ELSE TRUE
END;
CREATE TEMP MACRO json_fields(text) AS json_transform(
    text, '{"accommodation_id": "JSON", "partner_name": "JSON", "accommodation_data": "JSON"}');
CREATE TEMP MACRO json_kind(text) AS json_type(text);
CREATE TEMP MACRO json_decoded(text) AS json_extract_string(text, '$');
CREATE TEMP MACRO field_count(text) AS len(json_keys(text));
CREATE TEMP MACRO has_repeated_field(text) AS len(list_distinct(json_keys(text))) < len(json_keys(text));

-- What surrounds a number that is read as text. It is nowhere else in the data: the escape is of a control character,
-- and where there are such, the digest of all of the data follows.
CREATE TEMP MACRO number_mark(data) AS '\u0001' || CASE WHEN contains(data, '\u0001') THEN md5(data) ELSE '' END;
CREATE TEMP MACRO without_marks(data, mark) AS replace(replace(data, '"' || mark, ''), mark || '"', '');
CREATE TEMP MACRO as_written(text, data) AS CASE
    -- Else every field is text.
    WHEN CASE WHEN regexp_matches(data, '":[^"]')
        -- DuckDB writes integers as they came, but for -0, and other numbers in its own way: 1e5 as 100000.0.
        THEN regexp_matches(data, '[:,[]-?[0-9]+[.eE]') OR contains(text, '-0') END
    THEN without_marks(
        CAST(json_fields(quote_numbers(text, number_mark(data))).accommodation_data AS VARCHAR), number_mark(data))
    ELSE data
END;
"""


def create_json_functions(connection: DuckDBPyConnection) -> None:
    """Create the functions that the head of `sql/consolidate.sql` lists."""
    create: Any = connection.create_function
    # A lambda has no annotations; DuckDB would evaluate those of the function, which name modules not imported there.
    create("quote_numbers", lambda texts, marks: quote_numbers(texts, marks), ["VARCHAR"] * 2, "VARCHAR", type="arrow")
    create("is_too_deep", lambda texts: _are_too_deep(texts), ["VARCHAR"], "BOOLEAN", type="arrow")
    create_is_json(connection)
    connection.execute(JSON_FUNCTIONS)


def _are_too_deep(texts: Any) -> Any:
    import pyarrow as pa

    return pa.array([is_too_deep(text or "") for text in texts.to_pylist()], pa.bool_())

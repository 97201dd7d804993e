-- The rule of an hour (docs/pipelines.md, events): one row for each event_uuid, the earliest by created_at, arrived_at and
-- sequence_number; none where the previous hours have the uuid. Keys first; the payload is read once, at the end.
--
-- Relations  raw: the hour's rows, each with an id of its own (__row_id) that orders copies of one record
--            previous: event_uuid of the hours before
--            dropped: what the query of that name gave

-- name: dropped
SELECT
    raw.__row_id,
    'previous' AS cause
FROM raw
SEMI JOIN previous ON raw.event_uuid = previous.event_uuid
UNION ALL
SELECT
    __row_id,
    'hour' AS cause
FROM (
    SELECT
        raw.__row_id,
        row_number() OVER (
            PARTITION BY raw.event_uuid
            -- sequence numbers are numbers of up to 56 digits; the rest only breaks ties between copies of one record
            ORDER BY raw.created_at, raw.arrived_at, lpad(raw.sequence_number, 64, '0'), raw.shard_id, raw.__row_id
        ) AS place
    FROM raw
    -- hashes take a third of the memory of uuids; where two uuids share one, the window distinguishes them
    SEMI JOIN (
        SELECT hash(event_uuid) AS uuid_hash FROM raw GROUP BY hash(event_uuid) HAVING count(*) > 1
    ) AS repeated ON hash(raw.event_uuid) = repeated.uuid_hash
    ANTI JOIN previous ON raw.event_uuid = previous.event_uuid
    WHERE raw.event_uuid IS NOT NULL
) AS ranked
WHERE place > 1;

-- name: kept
-- (Spark; DuckDB does the same by a bit for each row, see transform.py)
SELECT raw.*
FROM raw
ANTI JOIN dropped ON raw.__row_id = dropped.__row_id;

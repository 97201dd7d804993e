-- The rule of the ingest (docs/pipelines.md, events): a record as received becomes a typed row, or gets a reason code.
--
-- Relations  envelopes(shard_id, sequence_number, arrived_at, record), and what the queries before gave, by their names
-- Functions that read JSON, made by `transform.py` from the planned columns:
--   is_json(record)               whether the text is JSON
--   json_fields(record)           struct of the planned fields, null where absent: for VARCHAR columns the string, or the JSON text
--                                 of anything else; for created_at and the other types always the JSON text
--   json_kind(record, path)       OBJECT, ARRAY, VARCHAR, BOOLEAN, ... of the value at the path
--   field_count(record)           number of fields of the object
--   has_repeated_field(record)    two fields of one name
-- Comments `/* ... */` are filled for additional fields. Names that begin with two underscores cannot be those of a field.
--
-- A record is plain where every field is required or in a column that holds exactly its value, so nothing is rescued.
-- An accepted record that is not plain keeps its text, and `rescue.py` looks at its additional fields one by one.

-- name: validated
SELECT
    event_uuid,
    event_name,
    created_at,
    arrived_at,
    shard_id,
    sequence_number,
    /* additional_columns */
    CASE WHEN __reason IS NULL THEN CAST(floor(created_at) AS BIGINT) END AS __second,
    __reason,
    __is_plain,
    CASE WHEN __reason IS NOT NULL OR NOT __is_plain THEN __record END AS __record,
    CAST(NULL AS VARCHAR) AS rescued_data
FROM (
    SELECT
        *,
        CASE
            -- nearly every record ends here; what follows only names the reason
            WHEN __is_uuid
                AND event_name IS NOT NULL AND NOT __is_name_suspect
                AND created_at >= 946684800 AND created_at * 1000000 <= epoch_us(arrived_at) + 86400000000
                AND __is_plain
            THEN NULL
            WHEN __record IS NULL OR NOT regexp_matches(__record, '\S') THEN 'empty'
            WHEN NOT is_json(__record) THEN 'not_json'
            WHEN json_kind(__record, '$') <> 'OBJECT' THEN 'not_object'
            WHEN has_repeated_field(__record) THEN 'repeated_field'
            WHEN __fields.event_uuid IS NULL OR __fields.event_name IS NULL OR __fields.created_at IS NULL THEN 'missing_field'
            WHEN json_kind(__record, '$.event_uuid') <> 'VARCHAR' OR __is_name_suspect OR created_at IS NULL THEN 'wrong_type'
            WHEN NOT __is_uuid THEN 'bad_uuid'
            -- before 2000-01-01 or more than a day after its arrival: also milliseconds, NaN and infinity
            WHEN NOT (created_at >= 946684800 AND created_at * 1000000 <= epoch_us(arrived_at) + 86400000000) THEN 'bad_time'
        END AS __reason
    FROM (
        SELECT
            *,
            coalesce(
                __is_uuid
                AND CASE WHEN __is_uuid THEN field_count(__record) END = 3 /* further_count */
                -- a number of so few digits is what its double says; a possible trailing comma is checked further
                AND NOT regexp_matches(__record, ':\s*-?[0-9]+(?:\.[0-9]{7}|\.?[0-9]*[eE])|,\s*\}')
                AND abs(created_at) < 4000000000,
                FALSE
            ) AS __is_plain
        FROM (
        SELECT
            event_uuid,
            __is_canonical OR (length(event_uuid) = 36 AND regexp_matches(event_uuid, '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$')) AS __is_uuid,
            __fields.event_name AS event_name,
            -- anything but a string has become text: look closer where it may be one
            CASE WHEN regexp_matches(__fields.event_name, '^([-0-9{\[NIni]|true$|false$)') THEN json_kind(__record, '$.event_name') <> 'VARCHAR' ELSE FALSE END
                AS __is_name_suspect,
            TRY_CAST(CAST(__fields.created_at AS VARCHAR) AS DOUBLE) AS created_at,
            arrived_at,
            shard_id,
            sequence_number,
            /* further_values */
            __fields,
            __record
        FROM (
            SELECT
                *,
                CASE
                    WHEN __is_canonical THEN __fields.event_uuid
                    WHEN __fields.event_uuid LIKE '{%}' THEN lower(substr(__fields.event_uuid, 2, length(__fields.event_uuid) - 2))
                    ELSE lower(__fields.event_uuid)
                END AS event_uuid
            FROM (
                SELECT
                    *,
                    length(__fields.event_uuid) = 36 AND regexp_matches(__fields.event_uuid, '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$') AS __is_canonical
                FROM (
                    SELECT
                        shard_id,
                        sequence_number,
                        arrived_at,
                        record AS __record,
                        CASE WHEN json_valid(record) THEN json_fields(record) END AS __fields
                    FROM envelopes
                ) AS parsed
            ) AS checked
        ) AS spelled
        ) AS valued
    ) AS typed
) AS validated_fields;

-- name: names
-- Names and seconds repeat: what is derived from them is worked out once for each.
SELECT
    event_name,
    split_part(event_name, ':', 1) AS event_type,
    CASE WHEN event_name LIKE '%:%:%' THEN split_part(event_name, ':', 2) ELSE '' END AS event_subtype,
    CASE WHEN event_name LIKE '%:%' THEN split_part(event_name, ':', -1) ELSE '' END AS event_action
FROM (SELECT DISTINCT event_name FROM validated WHERE __reason IS NULL) AS distinct_names;

-- name: seconds
SELECT
    __second,
    replace(CAST(make_timestamp(__second * 1000000) AS VARCHAR), ' ', 'T') || 'Z' AS created_datetime,
    __second - __second % 3600 AS __hour
FROM (SELECT DISTINCT __second FROM validated WHERE __reason IS NULL) AS distinct_seconds;

-- name: transformed
SELECT
    validated.event_uuid,
    validated.event_name,
    validated.created_at,
    seconds.created_datetime,
    names.event_type,
    names.event_subtype,
    names.event_action,
    validated.arrived_at,
    validated.shard_id,
    validated.sequence_number,
    validated.rescued_data,
    /* additional_columns */
    seconds.__hour
FROM validated
JOIN names ON validated.event_name = names.event_name
JOIN seconds ON validated.__second = seconds.__second
WHERE validated.__reason IS NULL;

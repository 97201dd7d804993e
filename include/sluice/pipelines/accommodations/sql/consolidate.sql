-- The rule of the pipeline (docs/pipelines.md, accommodations): of each accommodation the record of the highest-priority partner, of
-- each partner its newest record.
--
-- Relations  lines(record_id, text, flaw): lines of the partners' files; record_id grows with the age of the file and
--              the line; flaw is a reason code where the line could not even become text
--            records(accommodation_id, partner_name, recency): good records; recency is unique and greatest for the newest
--            priority(partner_name, place): partners that may be used, the best has the least place
--            what the queries before gave, by their names
-- Functions that read JSON, made by the engine:
--   is_json_record(text)      whether the text is JSON, nested at most 500 deep: deeper data is not read by many parsers
--   json_fields(text)         struct of the three fields as JSON text, null where absent or null
--   json_kind(text)           OBJECT, ARRAY, VARCHAR, ... of the whole text
--   json_decoded(text)        the text that a JSON string stands for
--   field_count(text)         number of fields of the object
--   has_repeated_field(text)  two fields of one name
--   as_written(text, data)    accommodation_data of the text without blanks around its tokens, every number as it is
--                             spelled there; data is the same as json_fields gives it, which may spell numbers anew
-- Function created with the relation priority:
--   is_reserved(accommodation_id, partner_name)  whether exactly one of both is the name of the canary: not usable

-- name: validated
SELECT
    record_id,
    CASE WHEN reason IS NULL THEN CASE WHEN contains(fields.accommodation_id, '\') THEN json_decoded(fields.accommodation_id)
        ELSE substr(fields.accommodation_id, 2, length(fields.accommodation_id) - 2) END END AS accommodation_id,
    CASE WHEN reason IS NULL THEN CASE WHEN contains(fields.partner_name, '\') THEN json_decoded(fields.partner_name)
        ELSE substr(fields.partner_name, 2, length(fields.partner_name) - 2) END END AS partner_name,
    CASE WHEN reason IS NULL THEN accommodation_data END AS accommodation_data,
    reason,
    CASE WHEN reason <> 'blank' THEN left(trim(text, E' \t\r\n'), 500000) END AS text,
    CASE WHEN reason IS NULL THEN __output_bytes ELSE strlen(text) END AS text_bytes
FROM (
    SELECT
        *,
        CASE
            -- nearly every record ends here; what follows only names the reason
            WHEN __is_good AND __further_bytes BETWEEN 0 AND 9 THEN NULL
            WHEN __is_good AND CASE WHEN __is_good THEN field_count(text) END = 3 THEN NULL
            WHEN flaw IS NOT NULL THEN flaw
            WHEN trim(text, E' \t\r\n') = '' THEN 'blank'
            WHEN NOT is_json_record(text) THEN 'not_json'
            WHEN json_kind(text) <> 'OBJECT' THEN 'not_object'
            WHEN has_repeated_field(text) THEN 'repeated_field'
            WHEN fields.accommodation_id IS NULL OR fields.partner_name IS NULL OR fields.accommodation_data IS NULL THEN 'missing_field'
            WHEN NOT (fields.accommodation_id LIKE '"%' AND fields.partner_name LIKE '"%' AND fields.accommodation_data LIKE '{%') THEN 'wrong_type'
            WHEN fields.accommodation_id = '""' OR fields.partner_name = '""' THEN 'empty_field'
            WHEN __output_bytes > 500000 THEN 'too_large'
        END AS reason
    FROM (
        SELECT
            *,
            fields.accommodation_id LIKE '"_%"' AND fields.partner_name LIKE '"_%"' AND fields.accommodation_data LIKE '{%'
                AND __output_bytes <= 500000 AS __is_good,
            -- of blanks, escapes that the output does without, further fields, and a newline: nothing is longer in the output
            -- than in the text. Two further fields of one name take 10: ,"":1,"":1
            strlen(text) + 1 - __output_bytes AS __further_bytes
        FROM (
            SELECT
                *,
                -- the three values, what is around them, and the newline
                strlen(fields.accommodation_id) + strlen(fields.partner_name) + strlen(accommodation_data) + 60
                    AS __output_bytes
            FROM (
                SELECT *, as_written(text, CAST(fields.accommodation_data AS VARCHAR)) AS accommodation_data
                FROM (
                    SELECT record_id, text, flaw, CASE WHEN flaw IS NULL AND is_json_record(text) THEN json_fields(text) END AS fields
                    FROM lines
                ) AS parsed
            ) AS written
        ) AS measured
    ) AS typed
) AS checked;

-- name: newest
SELECT accommodation_id, partner_name, max(recency) AS recency
FROM records
GROUP BY accommodation_id, partner_name;

-- name: consolidated
SELECT newest.accommodation_id, min_by(newest.recency, priority.place) AS recency
FROM newest
JOIN priority ON newest.partner_name = priority.partner_name
WHERE NOT is_reserved(newest.accommodation_id, newest.partner_name)
GROUP BY newest.accommodation_id;

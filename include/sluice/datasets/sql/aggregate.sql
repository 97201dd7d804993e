-- The rule of the datasets (contract, section 5): rows of text become typed rows or get a reason code, and are aggregated.
--
-- Relations  records(line, memory, percentage, ratio, dp, recovered), all text but the line,
--            and what the queries before gave, by their names
-- A file is judged in blocks; each adds its partial aggregates, which are merged once at the end.

-- name: judged
SELECT
    line,
    dp,
    __memory AS memory,
    -- plus zero: -0.0 and 0.0 are equal, and which of them a max keeps would be left to chance
    __percentage + 0.0 AS percentage,
    __ratio + 0.0 AS ratio,
    CASE
        -- nearly every row ends here; what follows only names the reason
        WHEN __is_memory AND __is_recovered AND __percentage BETWEEN 0 AND 1 AND isfinite(__ratio)
            AND NOT contains(__percentage_text, '_') AND NOT contains(__ratio_text, '_') AND __has_dp
        THEN NULL
        WHEN NOT regexp_full_match(__memory_text, '\s*[-+]?[0-9]+\s*') THEN 'memory_not_integer'
        WHEN NOT __is_memory THEN 'memory_out_of_range'
        WHEN __percentage IS NULL OR NOT regexp_full_match(__percentage_text, '\s*[-+.0-9eE]+\s*') THEN 'percentage_not_number'
        WHEN NOT __percentage BETWEEN 0 AND 1 THEN 'percentage_out_of_range'
        WHEN __ratio IS NULL OR NOT regexp_full_match(__ratio_text, '\s*[-+.0-9eE]+\s*') THEN 'ratio_not_number'
        WHEN NOT isfinite(__ratio) THEN 'ratio_out_of_range'
        WHEN NOT regexp_full_match(__recovered_text, '\s*[-+]?[0-9]+\s*') THEN 'recovered_not_integer'
        WHEN NOT __is_recovered THEN 'recovered_out_of_range'
        ELSE 'missing_dp'
    END AS reason,
    CASE
        WHEN reason IS NULL THEN NULL
        WHEN reason LIKE 'memory%' THEN __memory_text
        WHEN reason LIKE 'percentage%' THEN __percentage_text
        WHEN reason LIKE 'ratio%' THEN __ratio_text
        WHEN reason LIKE 'recovered%' THEN __recovered_text
    END AS value
FROM (
    SELECT
        *,
        -- a cast takes 12.7, 1_000 and 0x10 for integers: what does not read the same written back is looked at closer
        CASE
            WHEN __memory IS NULL THEN FALSE
            WHEN CAST(__memory AS VARCHAR) = __memory_text THEN TRUE
            ELSE regexp_full_match(__memory_text, '\s*[-+]?[0-9]+\s*')
        END AS __is_memory,
        CASE
            WHEN __recovered IS NULL THEN FALSE
            WHEN CAST(__recovered AS VARCHAR) = __recovered_text THEN TRUE
            ELSE regexp_full_match(__recovered_text, '\s*[-+]?[0-9]+\s*')
        END AS __is_recovered,
        CASE WHEN dp >= '!' THEN TRUE ELSE regexp_matches(dp, '\S') END AS __has_dp
    FROM (
        SELECT
            line,
            dp,
            memory AS __memory_text,
            percentage AS __percentage_text,
            ratio AS __ratio_text,
            recovered AS __recovered_text,
            TRY_CAST(memory AS SMALLINT) AS __memory,
            TRY_CAST(percentage AS DOUBLE) AS __percentage,
            TRY_CAST(ratio AS DOUBLE) AS __ratio,
            TRY_CAST(recovered AS TINYINT) AS __recovered
        FROM records
    ) AS typed
) AS checked

-- name: rejected
SELECT line, reason, value
FROM judged
WHERE reason IS NOT NULL
ORDER BY line

-- The sum of percentages is exact, so that it does not hang on the order of rows, blocks or threads: a percentage of at most 1
-- is cut into units of 2^-40, units of 2^-100, and a remainder that only values below 2^-47 have (in units of 2^-100).

-- name: partial
SELECT
    dp,
    min(memory) AS memory_min,
    max(memory) AS memory_max,
    count(*) AS memory_count,
    max(percentage) AS percentage_max,
    sum(__high) AS percentage_high,
    sum(__low) AS percentage_low,
    list(__remainder) FILTER (WHERE __remainder <> 0) AS percentage_remainders,
    max(ratio) AS ratio_max
FROM (
    SELECT *, __rest - __low AS __remainder
    FROM (
        SELECT *, CAST(trunc(__rest) AS BIGINT) AS __low
        FROM (
            SELECT *, (percentage * 1099511627776 - __high) * 1152921504606846976 AS __rest
            FROM (
                SELECT dp, memory, percentage, ratio, CAST(trunc(percentage * 1099511627776) AS BIGINT) AS __high
                FROM judged
                WHERE reason IS NULL
            ) AS cut_at_40
        ) AS rest
    ) AS cut_at_100
) AS cut
GROUP BY dp

-- name: aggregated
SELECT
    dp,
    min(memory_min) AS memory_min,
    max(memory_max) AS memory_max,
    CAST(sum(memory_count) AS BIGINT) AS memory_count,
    max(percentage_max) AS percentage_max,
    CAST(sum(percentage_high) AS HUGEINT) AS percentage_high,
    CAST(sum(percentage_low) AS HUGEINT) AS percentage_low,
    flatten(list(percentage_remainders) FILTER (WHERE percentage_remainders IS NOT NULL)) AS percentage_remainders,
    max(ratio_max) AS ratio_max
FROM partials
GROUP BY dp
ORDER BY dp

-- Measures of a finished file for its gate, from the relation output (the columns of the file).

-- name: measured
SELECT
    CAST(coalesce(sum(memory_count), 0) AS BIGINT) AS memory_count_sum,
    count(*) AS dps,
    count(DISTINCT dp) AS distinct_dps,
    count_if(dp IS NULL OR memory_count IS NULL OR percentage_avg IS NULL OR ratio_max IS NULL) AS null_values,
    count_if(NOT memory_min <= memory_max) AS min_above_max,
    -- also NaN, which is above all numbers here
    count_if(NOT (percentage_avg BETWEEN 0 AND 1 AND percentage_max BETWEEN 0 AND 1)) AS percentage_outside
FROM output

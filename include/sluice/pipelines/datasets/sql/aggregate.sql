-- The rule of the datasets (docs/pipelines.md, datasets): rows of text become typed rows or get a reason code, and are aggregated.
--
-- Relations  records(line, memory, percentage, ratio, dp, recovered), all text but the line,
--            and what the queries before gave, by their names
-- A file is validated in blocks; each adds its partial aggregates, which are merged once at the end.

-- Blanks around a number are passed over, a vertical tab too, which is none of \s.

-- The integer of a text, however it is spelled: 12, 12.0, 1.2e1; null if it is not a number or has a fraction. An integer of
-- six digits or more gives 100000 or -100000, which is out of every range here. Digits are moved, nothing is computed that
-- could round, overflow or take long. Lists of one hold what would be evaluated again at each use.

-- name: create_integer_of
CREATE MACRO integer_of(text) AS list_transform(
    list_transform(
        list_transform(
            [regexp_extract(
                text,
                '^[\s\x0B]*([-+]?)(?:([0-9]+)\.?([0-9]*)|\.([0-9]+))(?:[eE]([-+]?[0-9]+))?[\s\x0B]*$',
                ['sign', 'whole', 'fraction', 'bare_fraction', 'exponent']
            )],
            lambda part: {
                'sign': part.sign,
                'all_digits': part.whole || part.fraction || part.bare_fraction,
                'fraction_length': length(part.fraction) + length(part.bare_fraction),
                -- no text is long enough to make up for an exponent beyond this
                'exponent': CASE
                    WHEN part.exponent = '' THEN 0
                    WHEN part.exponent LIKE '-%'
                    THEN greatest(coalesce(TRY_CAST(part.exponent AS BIGINT), CAST(-1e12 AS BIGINT)), CAST(-1e12 AS BIGINT))
                    ELSE least(coalesce(TRY_CAST(part.exponent AS BIGINT), CAST(1e12 AS BIGINT)), CAST(1e12 AS BIGINT))
                END
            }
        ),
        lambda number: {
            'sign': number.sign,
            'is_number': number.all_digits <> '',
            'digits': trim(number.all_digits, '0'),
            -- where the decimal point is, counted from the first digit that is not 0
            'point': length(ltrim(number.all_digits, '0')) - number.fraction_length + number.exponent
        }
    ),
    lambda number: CASE
        WHEN NOT number.is_number THEN NULL
        WHEN number.digits = '' THEN 0
        WHEN length(number.digits) > number.point THEN NULL
        WHEN number.point > 5 THEN CASE number.sign WHEN '-' THEN -100000 ELSE 100000 END
        ELSE CAST(number.sign || rpad(number.digits, CAST(number.point AS INTEGER), '0') AS INTEGER)
    END
)[1];

-- name: validated
SELECT
    line,
    dp,
    __memory AS memory,
    -- plus zero: -0.0 and 0.0 are equal, and a max would keep one of them at random
    __percentage + 0.0 AS percentage,
    __ratio + 0.0 AS ratio,
    CASE
        -- Nearly every row ends here. A cast to DOUBLE takes 1_000 and +-1 for numbers: a text that begins with a plus sign or
        -- a blank, which are below the comma, is looked at closer.
        WHEN __memory BETWEEN -32768 AND 32767 AND __recovered BETWEEN -128 AND 127
            AND __percentage BETWEEN 0 AND 1 AND isfinite(__ratio)
            AND NOT contains(__percentage_text, '_') AND NOT contains(__ratio_text, '_')
            AND __percentage_text > ',' AND __ratio_text > ',' AND __has_dp
        THEN NULL
        WHEN __memory IS NULL THEN 'memory_not_integer'
        WHEN NOT __memory BETWEEN -32768 AND 32767 THEN 'memory_out_of_range'
        WHEN __percentage IS NULL
            OR NOT regexp_full_match(__percentage_text, '[\s\x0B]*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?[\s\x0B]*')
        THEN 'percentage_not_number'
        WHEN NOT __percentage BETWEEN 0 AND 1 THEN 'percentage_out_of_range'
        WHEN __ratio IS NULL
            OR NOT regexp_full_match(__ratio_text, '[\s\x0B]*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?[\s\x0B]*')
        THEN 'ratio_not_number'
        WHEN NOT isfinite(__ratio) THEN 'ratio_out_of_range'
        WHEN __recovered IS NULL THEN 'recovered_not_integer'
        WHEN NOT __recovered BETWEEN -128 AND 127 THEN 'recovered_out_of_range'
        WHEN NOT __has_dp THEN 'missing_dp'
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
        -- (integers with blanks or .0, then fractions; what is left needs integer_of, which takes longer)
        CASE
            WHEN CAST(__memory_cast AS VARCHAR) = __memory_text THEN __memory_cast
            WHEN __memory_cast IS NOT NULL
                AND regexp_full_match(__memory_text, '[\s\x0B]*[-+]?[0-9]+(\.0*)?[\s\x0B]*')
            THEN __memory_cast
            WHEN regexp_full_match(__memory_text, '[^eE]*\.0*[1-9][^eE]*') THEN NULL
            ELSE integer_of(__memory_text)
        END AS __memory,
        CASE
            WHEN CAST(__recovered_cast AS VARCHAR) = __recovered_text THEN __recovered_cast
            WHEN __recovered_cast IS NOT NULL
                AND regexp_full_match(__recovered_text, '[\s\x0B]*[-+]?[0-9]+(\.0*)?[\s\x0B]*')
            THEN __recovered_cast
            WHEN regexp_full_match(__recovered_text, '[^eE]*\.0*[1-9][^eE]*') THEN NULL
            ELSE integer_of(__recovered_text)
        END AS __recovered,
        CASE WHEN dp >= '!' THEN TRUE ELSE regexp_matches(dp, '\S') END AS __has_dp
    FROM (
        SELECT
            line,
            dp,
            memory AS __memory_text,
            percentage AS __percentage_text,
            ratio AS __ratio_text,
            recovered AS __recovered_text,
            TRY_CAST(memory AS INTEGER) AS __memory_cast,
            TRY_CAST(percentage AS DOUBLE) AS __percentage,
            TRY_CAST(ratio AS DOUBLE) AS __ratio,
            TRY_CAST(recovered AS INTEGER) AS __recovered_cast
        FROM records
    ) AS typed
) AS checked;

-- name: rejected
SELECT line, reason, value
FROM validated
WHERE reason IS NOT NULL
ORDER BY line;

-- name: partial
-- The sum of percentages is exact, so that it does not hang on the order of rows, blocks or threads: a percentage of at most 1
-- is cut into units of 2^-40, units of 2^-100, and a remainder that only values below 2^-47 have (in units of 2^-100).
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
                FROM validated
                WHERE reason IS NULL
            ) AS cut_at_40
        ) AS rest
    ) AS cut_at_100
) AS cut
GROUP BY dp;

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
ORDER BY dp;

-- name: measured
-- Measures of a finished file for its gate, from the relation output (the columns of the file).
SELECT
    CAST(coalesce(sum(memory_count), 0) AS BIGINT) AS memory_count_sum,
    count(*) AS dps,
    count(DISTINCT dp) AS distinct_dps,
    count_if(dp IS NULL OR memory_count IS NULL OR percentage_avg IS NULL OR ratio_max IS NULL) AS null_values,
    count_if(NOT memory_min <= memory_max) AS min_above_max,
    -- also NaN, which is above all numbers here
    count_if(NOT (percentage_avg BETWEEN 0 AND 1 AND percentage_max BETWEEN 0 AND 1)) AS percentage_outside
FROM output;

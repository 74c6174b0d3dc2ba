-- The quantile `p` of the histograms in `activity_minutes`: the middle of the bucket that holds
-- what quantileExact gives. Functions belong to the whole server, hence the long name.
CREATE FUNCTION IF NOT EXISTS activity_hist_quantile{on_cluster} AS (histogram, p) -> if(
    empty(histogram),
    nan,
    exp2((0.5 + mapKeys(histogram)[arrayFirstIndex(
        total -> total > least(
            floor(toFloat64(p) * arraySum(mapValues(histogram))),
            toFloat64(arraySum(mapValues(histogram))) - 1),
        arrayCumSum(mapValues(histogram)))]) / 16))

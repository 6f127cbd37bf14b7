"""95 % confidence intervals of a share (of words) and of a rate (alarms per hour)."""

from scipy import stats

CONFIDENCE = 0.95


def wilson(count: float, total: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval (0 to 1) of a share of which `count` out of `total` were observed; (0, 1) if total
    is 0.

    Wilson, "Probable inference, the law of succession, and statistical inference" (JASA 1927).
    Unlike p ± 2σ it stays within 0 and 1, and holds for small counts.
    """
    if total <= 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share, weight = count / total, z * z / total
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * (share * (1 - share) / total + weight / (4 * total)) ** 0.5
    # Exact where rounding is not.
    low = 0.0 if count <= 0 else max(middle - half, 0.0)
    high = 1.0 if count >= total else min(middle + half, 1.0)
    return low, high


def poisson(count: int, hours: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval, per hour, of a rate of which `count` alarms were observed in `hours` (above 0).

    Exact, by quantiles of chi-square (Garwood, "Fiducial limits for the Poisson distribution",
    Biometrika 1936). Without any alarm only an upper limit is possible, so the interval is
    one-sided: up to about 3 / hours at 95 %. (Therefore the coverage is 94 % where 3.0 to 3.7
    alarms are expected.)
    """
    if count == 0:
        return 0.0, float(stats.chi2.ppf(confidence, 2) / 2 / hours)
    tail = (1 - confidence) / 2
    low = float(stats.chi2.ppf(tail, 2 * count) / 2 / hours)
    high = float(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2 / hours)
    return low, high

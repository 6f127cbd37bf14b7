"""What a count says about the rate behind it: 95 % intervals for shares of words and for alarms
per hour."""

from scipy import stats

CONFIDENCE = 0.95


def wilson(count: float, total: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval (0 to 1) of a share of which `count` of `total` were seen; (0, 1) when nothing was
    looked at.

    Wilson, "Probable inference, the law of succession, and statistical inference" (JASA 1927).
    Unlike p ± 2σ it stays within 0 and 1 and holds for small counts.
    """
    if total <= 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share, weight = count / total, z * z / total
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * (share * (1 - share) / total + weight / (4 * total)) ** 0.5
    low, high = middle - half, middle + half
    # Exact where rounding is not.
    return (0.0 if count <= 0 else max(low, 0.0)), (1.0 if count >= total else min(high, 1.0))


def poisson(count: int, hours: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Interval, per hour, of the rate at which `count` alarms were heard in `hours` (more than 0).

    Exact, by quantiles of chi-square (Garwood, "Fiducial limits for the Poisson distribution",
    Biometrika 1936). Of no alarm at all only an upper limit can be told, so all doubt goes there:
    about 3 / hours at 95 %. (The price of changing sides: where 3.0 to 3.7 alarms are to be
    expected, the interval holds the true rate 94 times in 100.)
    """
    if count == 0:
        return 0.0, float(stats.chi2.ppf(confidence, 2) / 2 / hours)
    doubt = (1 - confidence) / 2
    return float(stats.chi2.ppf(doubt, 2 * count) / 2 / hours), float(
        stats.chi2.ppf(1 - doubt, 2 * count + 2) / 2 / hours
    )

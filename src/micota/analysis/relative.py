"""Relative improvements, as MiCoTA (arXiv 2507.01887) prints them: 9.98 % over the student before SFT."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from micota.analysis.intervals import Estimate
from micota.analysis.statistics import Z95, Suite, align


def relative_improvement(first: Suite, second: Suite) -> Estimate | None:
    r"""Return ``first / second - 1`` of two macro averages over the same problems, with its 95 % interval; None if the
    second is 0.

    The interval is that of the delta method for a ratio of paired means, :math:`r \pm z\,\mathrm{se}(x-ry)/\bar y`
    (Cochran 1977, Sampling Techniques, section 6.3): benchmarks are strata, problems the sample. A paired comparison
    needs less than two separate ones, since the difficulty of a problem is on both sides.

    Raises:
        PairingError: benchmarks or problems differ.
    """
    means = [_mean(suite) for suite in (first, second)]
    if means[1] == 0:
        return None
    ratio = means[0] / means[1]
    scaled = {bench: {name: ratio * value for name, value in values.items()} for bench, values in second.items()}
    residuals = align(first, scaled)
    variances = [float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0 for values in residuals]
    half = Z95 * math.sqrt(sum(variances)) / len(variances) / means[1]
    return Estimate(ratio - 1, ratio - 1 - half, ratio - 1 + half)


def _mean(suite: Mapping[str, Mapping[str, float]]) -> float:
    return float(np.mean([np.mean(list(values.values())) for values in suite.values()]))

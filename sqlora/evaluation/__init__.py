"""Whether a query is right: synthetic databases, the reference's results, the metrics. Needs no torch."""

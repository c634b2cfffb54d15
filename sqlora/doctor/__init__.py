"""python -m sqlora.doctor: whether this machine computes correct numbers."""

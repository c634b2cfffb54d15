"""python -m sqlora.merge: the adapter folded into its base, as an ordinary transformers folder."""

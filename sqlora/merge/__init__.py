"""python -m sqlora.merge: the adapter merged into its base, as an ordinary transformers folder."""

"""Rows that share a prefix go through the model once: batches, attention, loss."""

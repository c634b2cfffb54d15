"""Rows from files and from the hub, checked, split and turned into tokens."""

"""Somebody's own database, read and never written: URL, connection, schema, dialect. Needs no torch and no model."""

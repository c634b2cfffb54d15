"""The settings: config.py, the flags and a run's sqlora.json, checked before any work."""

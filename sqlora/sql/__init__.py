"""SQL as text: schemas, parsing, what may be run, and the sandbox that runs it. Needs no torch and no model."""

"""A model meets a live database: questions, the interactive shell, which tables the model sees."""

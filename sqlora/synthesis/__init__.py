"""Training rows about a user's own database: queries drawn over its schema and values, and questions in English."""

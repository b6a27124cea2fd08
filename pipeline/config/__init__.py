"""Configuration: its schema, how it is composed, and the errors a user sees."""

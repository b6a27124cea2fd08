"""The configuration: its schema, its composition, and the messages for wrong keys."""

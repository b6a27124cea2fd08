"""What a person looks at: pictures of a training, and the parts of the report's page."""

"""Looks at a source of images, and proposes the configuration to begin with; of the command `suggest`."""

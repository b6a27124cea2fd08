"""The HTTP side of a package: an app that classifies what is uploaded, with limits, and the server that runs it."""

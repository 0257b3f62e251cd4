"""The pytest plugin that comes with the distribution."""

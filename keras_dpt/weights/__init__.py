"""Finding, downloading and reading official weights."""

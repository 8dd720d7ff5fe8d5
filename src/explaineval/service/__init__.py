"""The service: runs that are submitted, followed and stopped over HTTP, executed by worker processes."""

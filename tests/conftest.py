"""Fixtures of the stores, for every suite."""

from tests.stores import database_url, live_server, postgres_server, redis_url

__all__ = ["database_url", "live_server", "postgres_server", "redis_url"]

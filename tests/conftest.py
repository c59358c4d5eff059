"""Fixtures of the stores, for every suite."""

from tests.stores import database_url, engine, live_servers, postgres_server, pytest_generate_tests, redis_url

__all__ = ["database_url", "engine", "live_servers", "postgres_server", "pytest_generate_tests", "redis_url"]

"""The worker's recurring job: scheduled once however many ask, run by a real RQ worker."""

from datetime import UTC, datetime, timedelta

import pytest
from rq import Queue
from rq.job import Job

from gateway import jobs

NOW = datetime(2026, 11, 23, 8, 3, tzinfo=UTC)


@pytest.fixture
def queue(redis_url: str) -> Queue:
    return jobs.open_queue(redis_url)[0]


def scheduled(queue: Queue) -> list[str]:
    return list(queue.scheduled_job_registry.get_job_ids())


def test_the_sweep_is_scheduled_once_each_ten_minutes(queue: Queue) -> None:
    for _ in range(3):
        jobs.schedule_sweep(queue, NOW)
        jobs.schedule_sweep(queue, NOW + timedelta(minutes=6))
    assert len(scheduled(queue)) == 1
    (name,) = scheduled(queue)
    due = queue.scheduled_job_registry.get_scheduled_time(name)
    assert due == datetime(2026, 11, 23, 8, 10, tzinfo=UTC)
    jobs.schedule_sweep(queue, NOW + timedelta(minutes=10))
    assert len(scheduled(queue)) == 2


def test_a_job_holds_no_arguments(queue: Queue) -> None:
    jobs.schedule_sweep(queue, NOW)
    job = Job.fetch(scheduled(queue)[0], connection=queue.connection, serializer=queue.serializer)
    assert not job.args and not job.kwargs
    assert job.description == "gateway.jobs.close_stale_interviews()"


def test_a_worker_runs_it_with_what_its_process_composed(
    redis_url: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.Worker, "_install_signal_handlers", lambda self: None)  # they are the tests' own
    seen = "dial16-test:closed-at"

    def close(now: datetime) -> int:  # in a work horse: a process of its own
        jobs.open_queue(redis_url)[1].set(seen, now.isoformat())
        return 3

    job = queue.enqueue(jobs.close_stale_interviews)
    jobs.work(redis_url, jobs.Composition(close_unfinished=close), burst=True)
    job.refresh()  # type: ignore[no-untyped-call]
    assert job.get_status() == "finished" and job.return_value() == 3
    found = queue.connection.get(seen)
    assert isinstance(found, bytes)
    at = datetime.fromisoformat(found.decode())
    assert timedelta(0) <= datetime.now(UTC) - at < timedelta(minutes=1)
    assert len(scheduled(queue)) == 1  # the worker saw to the next one


def test_a_worker_that_was_not_composed_says_how_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_composition", None)
    with pytest.raises(RuntimeError, match=r"main\.py work"):
        jobs.close_stale_interviews()

"""The worker's jobs: what recurs, once however many ask; one a message, with its id only; real RQ workers."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

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

    def close(now: datetime) -> int:
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
    with pytest.raises(RuntimeError, match=r"main\.py work"):
        jobs.send_message("0" * 32)


def test_a_message_has_one_job_with_its_id_only(queue: Queue) -> None:
    sends = jobs.Sends(queue.connection, remember_seconds=0.3)
    due = [("a" * 32, "reply"), ("b" * 32, "invitation"), ("c" * 32, "reply")]
    assert sends.enqueue([]) == 0 and sends.enqueue(due) == 3 and sends.enqueue(due) == 0
    assert sends.waiting() == 3
    replies = Queue(jobs.queue_name("reply"), connection=queue.connection, serializer=JSONSerializer)
    assert replies.count == 2
    job = replies.jobs[0]
    assert (job.args, job.kwargs, job.description) == (["a" * 32], {}, "send_message")
    assert job.result_ttl == 0  # nothing stays of it
    time.sleep(0.4)
    assert sends.enqueue(due[:1]) == 1  # forgotten: its worker may have died


def test_a_send_that_fails_leaves_no_text_in_the_queue(
    redis_url: str, queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs.Worker, "_install_signal_handlers", lambda self: None)

    class Broken:
        live = queue.connection

        def send(self, message: str) -> str:
            raise ValueError("+233240000001 and what was written to it")

    jobs.Sends(queue.connection).enqueue([("a" * 32, "reply")])
    broken: Any = Broken()
    jobs.work(redis_url, jobs.Composition(close_unfinished=lambda now: 0, dispatch=broken), burst=True)
    assert "233240000001" not in caplog.text and "ValueError" in caplog.text
    for key in queue.connection.scan_iter("*"):
        assert b"233240000001" not in (queue.connection.dump(key) or b"")

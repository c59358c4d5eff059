"""A whole campaign with everything going wrong, in small: see bench/campaign.py, which runs 20,000."""

from pathlib import Path

from bench.campaign import run, told


def test_a_campaign_with_refusals_time_outs_opt_outs_and_dead_workers(tmp_path: Path) -> None:
    """Every message ends or is explained, nobody is written to twice or after an opt-out, costs agree."""
    result = run(
        tmp_path, 300, workers=2, reminders=1, kill_seconds=2.0, most_seconds=240, remember_seconds=3.0
    )
    assert result.faults == [], told(result, None)
    assert result.kills >= 1 and result.opt_outs == 15
    sent = {(kind, state) for kind, state, _ in result.outcomes}
    assert {("invitation", "delivered"), ("reminder", "delivered"), ("invitation", "failed")} <= sent
    assert ("invitation", "unknown") in sent and result.callbacks > result.sends

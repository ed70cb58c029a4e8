"""`executions` and `overlap`."""

from __future__ import annotations

import pytest

from pytest_celery_chaos.checks.executions import executions, overlap
from pytest_celery_chaos.errors import UsageError

from .story import Story, clean


def ran_twice() -> Story:
    story = Story().worker("a").worker("b").send("t1").takes("a", "t1").starts("a", "t1").kill("a")
    return story.at(3).restores("b", "t1").works("b", "t1", redelivered=True)


def test_each_task_ran_once() -> None:
    finding = executions(clean().ends().history(), task="add", exactly=1)
    assert (finding.outcome, finding.seen) == ("holds", 1)


def test_exactly_once_is_what_is_meant_where_nothing_is_said() -> None:
    assert executions(clean().ends().history(), task="add").outcome == "holds"
    assert executions(ran_twice().ends().history(), task="add").outcome == "violated"


def test_a_task_that_ran_twice_ran_too_often() -> None:
    finding = executions(ran_twice().ends().history(), task="add", max=1)
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert [e.source for e in finding.evidence] == ["worker:a", "worker:b"]
    assert "1 of them redelivered" in finding.why


def test_a_task_that_ran_too_seldom() -> None:
    assert executions(clean().ends().history(), task="add", min=2).seen == 1
    assert executions(ran_twice().ends().history(), task="add", exactly=3).seen == 2


def test_a_task_that_never_ran_ran_less_than_once() -> None:
    finding = executions(clean().send("t3").ends().history(), task="add", min=1)
    assert (finding.outcome, finding.seen) == ("violated", 0)
    assert "t3" in finding.why


def test_that_nothing_ran_does_not_show_that_nothing_ran_too_often() -> None:
    story = Story().worker("a").send("t1").ends(queues={"celery": ["t1"]})
    assert executions(story.history(), task="add", max=1).outcome == "inconclusive"
    assert executions(story.history(), task="add", exactly=0).outcome == "holds"
    assert executions(story.history(), task="other", max=1).outcome == "inconclusive"


def test_a_second_run_without_redelivery_is_told_from_a_redelivery() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").acks("a", "t1").starts("a", "t1")
    story.event("worker:a", "child_down", child=story.child("a"), exitcode=-9)
    story.starts("a", "t1", pid=story.new_child("a")).ends()
    finding = executions(story.history(), task="t1", max=1)
    assert finding.seen == 2
    assert "none redelivered" in finding.why


def test_exactly_goes_alone() -> None:
    with pytest.raises(UsageError, match="exactly"):
        executions(clean().history(), task="add", exactly=1, max=2)


def test_copies_one_after_the_other_do_not_overlap() -> None:
    finding = overlap(ran_twice().ends().history(), task="add")
    assert (finding.outcome, finding.seen) == ("holds", 1)


def test_nothing_ran_is_inconclusive_for_overlap() -> None:
    assert overlap(Story().worker("a").send("t1").ends().history()).outcome == "inconclusive"


def test_two_copies_at_once_overlap() -> None:
    story = Story().worker("a").worker("b").send("t1").takes("a", "t1").starts("a", "t1")
    story.at(3).restores("b", "t1").works("b", "t1", redelivered=True).at(9).succeeds("a", "t1").ends()
    finding = overlap(story.history(), task="t1")
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert overlap(story.history(), task="t1", max=2).outcome == "holds"


def test_copies_in_one_process_of_threads_overlap() -> None:
    story = Story().worker("a", pool="threads").send("t1").takes("a", "t1").starts("a", "t1").starts("a", "t1")
    story.starts("a", "t1").returns("a", "t1").returns("a", "t1").ends()
    assert overlap(story.history()).seen == 3


def test_a_child_that_outlives_its_killed_main_process_still_runs() -> None:
    story = Story().worker("a").worker("b").send("t1").takes("a", "t1").starts("a", "t1").kill("a")
    story.at(3).restores("b", "t1").takes("b", "t1", redelivered=True).starts("b", "t1")
    assert overlap(story.at(4).returns("a", "t1").at(5).succeeds("b", "t1").ends().history()).seen == 2


def test_a_killed_child_runs_no_more() -> None:
    story = Story().worker("a").send("t1").takes("a", "t1").starts("a", "t1")
    story.event("worker:a", "child_down", child=story.child("a"), exitcode=-9)
    story.starts("a", "t1", pid=story.new_child("a")).ends()
    assert overlap(story.history()).outcome == "holds"


def test_a_worker_begun_anew_under_the_same_pid_is_another_process() -> None:
    story = Story().worker("a", pool="solo").send("t1").takes("a", "t1").starts("a", "t1").kill("a")
    pid = story.child("a")
    story.event("worker:a", "hello", role="worker").starts("a", "t1", pid=pid).returns("a", "t1", pid=pid).ends()
    assert overlap(story.history()).outcome == "holds"

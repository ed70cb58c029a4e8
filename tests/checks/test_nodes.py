"""`unique_nodenames` and `duplicates_warned`: what workers are called."""

from __future__ import annotations

from pytest_celery_chaos.checks.nodes import duplicates_warned, unique_nodenames

from .story import Story


def twins() -> Story:
    return Story().worker("a", hostname="w@h").worker("b", hostname="w@h")


def warned(story: Story, source: str) -> Story:
    return story.event(source, "warned", category="DuplicateNodenameWarning", text="Received multiple replies")


def test_workers_of_different_names_hold() -> None:
    story = Story().worker("a", hostname="a@h").worker("b", hostname="b@h").ends()
    assert unique_nodenames(story.history()).outcome == "holds"


def test_one_after_the_other_may_have_one_name() -> None:
    story = Story().worker("c", hostname="c@h").worker("a", hostname="w@h").dies("a").worker("b", hostname="w@h")
    assert unique_nodenames(story.ends().history()).outcome == "holds"


def test_two_and_three_at_once_violate() -> None:
    finding = unique_nodenames(twins().ends().history())
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert [e.source for e in finding.evidence] == ["worker:a", "worker:b"]
    assert unique_nodenames(twins().worker("c", hostname="w@h").ends().history()).seen == 3


def test_the_restart_of_one_beside_the_other_violates() -> None:
    story = twins().dies("a").worker("a", hostname="w@h").ends()
    assert unique_nodenames(story.history()).seen == 2


def test_one_worker_alone_shows_nothing() -> None:
    assert unique_nodenames(Story().worker("a", hostname="w@h").ends().history()).outcome == "inconclusive"
    assert unique_nodenames(Story().ends().history()).outcome == "inconclusive"


def test_a_warning_of_the_client_or_of_a_third_worker_holds() -> None:
    finding = duplicates_warned(warned(twins(), "client:main").ends().history())
    assert (finding.outcome, finding.seen) == ("holds", 1)
    story = warned(twins().begins("c"), "worker:c").ready("c", hostname="c@h").ends()
    assert duplicates_warned(story.history(), worker="c").outcome == "holds"


def test_no_warning_violates() -> None:
    assert duplicates_warned(twins().ends().history()).seen == 0
    assert duplicates_warned(twins().ends().history()).outcome == "violated"


def test_a_warning_elsewhere_or_of_something_else_violates() -> None:
    assert duplicates_warned(warned(twins(), "client:main").ends().history(), worker="b").outcome == "violated"
    other = twins().event("client:main", "warned", category="DeprecationWarning", text="old").ends()
    assert duplicates_warned(other.history()).outcome == "violated"


def test_a_warning_from_before_they_were_two_violates() -> None:
    story = warned(Story().worker("a", hostname="w@h"), "client:main").worker("b", hostname="w@h").ends()
    assert duplicates_warned(story.history()).outcome == "violated"


def test_without_two_of_one_name_there_is_nothing_to_warn_of() -> None:
    story = Story().worker("a", hostname="a@h").worker("b", hostname="b@h").ends()
    assert duplicates_warned(story.history()).outcome == "inconclusive"

from pytest_celery_chaos.history.reference import PAGE, reference_page


def test_the_reference_page_is_current():
    assert PAGE.read_text() == reference_page(), "write it anew: python -m pytest_celery_chaos.scenario"

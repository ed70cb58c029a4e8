"""Write anew what is made from the code: ``python -m pytest_celery_chaos.scenario``, in a checkout."""

from __future__ import annotations

from pathlib import Path

from pytest_celery_chaos.history import reference as history
from pytest_celery_chaos.scenario import schema, stub
from pytest_celery_chaos.scenario.reference import reference_page

PAGE = Path(__file__).parents[2] / "docs" / "scenario.md"

if __name__ == "__main__":
    stub.FILE.write_text(stub.text(), encoding="utf-8")
    schema.FILE.write_text(schema.text(), encoding="utf-8")
    PAGE.write_text(reference_page(), encoding="utf-8")
    history.PAGE.write_text(history.reference_page(), encoding="utf-8")

#: A suite of its own, with an application and a pytest.ini of its own; test_downstream.py runs it as its users would.
collect_ignore = ["downstream"]

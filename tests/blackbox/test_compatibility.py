"""The page about compatibility says what the tests show."""

import pytest

import compatibility


@pytest.fixture
def survives():
    """No broker is asked here."""


@pytest.fixture(scope="module")
def tests():
    return compatibility.marked_tests()


def test_every_row_has_a_test_and_every_mark_a_row(tests):
    assert compatibility.complaints(tests) == []


def test_the_page_is_up_to_date(tests):
    page = compatibility.page(tests)
    assert compatibility.PAGE.read_text() == page, "run python3 tests/blackbox/compatibility.py"


MODULE = """
KNOWN = "a constant"
def helper(broker): expect(broker, why="through a helper", ringtail=1, rabbitmq=2)
def told(broker, more, why=None): expect(broker, why=why, ringtail=1, rabbitmq=2)
@pytest.fixture
def made(broker): expect(broker, why="through a fixture", ringtail=1, rabbitmq=2)
@pytest.mark.parametrize("a", [pytest.param(1, marks=pytest.mark.row("S", "second"))])
@pytest.mark.row("S", "first")
def test_both(broker, made):
    helper(broker)
    told(broker, 1, why=KNOWN if made else "given")
    if expect(broker, why="its " "own", ringtail=True, rabbitmq=False): client.expect(Kind)
@pytest.mark.row("S", "third")
def test_none(broker): told(broker, compute())
def test_neither(broker, reason): expect(broker, why=reason, ringtail=1, rabbitmq=2)
"""


def test_rows_and_reasons_are_found():
    module = compatibility.Module("f", MODULE)
    both, none, neither = (
        module.marked(module.functions[name])
        for name in ("test_both", "test_none", "test_neither"))
    assert both.rows == [("S", "second"), ("S", "first")]
    assert set(both.reasons) == {
        "its own", "through a helper", "through a fixture", "a constant", "given"}
    assert none[2:] == ([("S", "third")], [])
    assert neither[2:] == ([], [])
    module.check_complete([both, none])
    with pytest.raises(AssertionError, match="third"):
        module.check_complete([both])


def test_a_reason_that_only_a_run_could_tell_is_refused():
    text = MODULE.replace("def test_neither", "@pytest.mark.row('S', 'x')\ndef test_neither")
    module = compatibility.Module("f", text)
    with pytest.raises(ValueError, match="f:16: cannot tell"):
        module.marked(module.functions["test_neither"])


def test_a_row_without_a_test_and_a_mark_without_a_row_are_told():
    test = compatibility.Marked("f", "test_x", [("Queues", "no such title")], [])
    told = compatibility.complaints([test])
    assert "no such row: ('Queues', 'no such title')" in told
    assert "no test shows this row: ('Queues', 'Purge')" in told


def test_a_line_of_the_page():
    row = compatibility.rows.Row("a|b", "x", "y.erl:1")
    test = compatibility.Marked("f.py", "test_x", [], [])
    same = "| a\\|b | x | the same | [f.py::test_x](../tests/blackbox/f.py) | y.erl:1 |\n"
    assert compatibility.line(row, [test]) == same
    assert "| differs: z |" in compatibility.line(row, [test._replace(reasons=["z"])])

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconductor.tool_registry import expressions
from opsconductor.tool_registry.expressions import ExpressionError

SCOPE = {
    "inputs": {"service": "nginx", "count": 3, "on": True, "list": [1, "two"], "none": None},
    "steps": {
        "space": {"status": "completed", "output": {"filesystems": [{"use_percent": 42}]}},
        "my-step": {"output": {"with space": 1}},
    },
}


def test_a_text_that_is_one_reference_keeps_the_type() -> None:
    assert expressions.interpolate("${{ inputs.count }}", SCOPE) == 3
    assert expressions.interpolate("${{inputs.list}}", SCOPE) == [1, "two"]
    assert expressions.interpolate("${{ inputs.none }}", SCOPE) is None
    path = "${{ steps.space.output.filesystems[0].use_percent }}"
    assert expressions.interpolate(path, SCOPE) == 42
    assert expressions.interpolate("${{ steps.my-step.output['with space'] }}", SCOPE) == 1


def test_references_inside_a_text_become_text() -> None:
    text = "restart ${{ inputs.service }} x${{ inputs.count }} ${{ inputs.on }} ${{ inputs.list }}"
    assert expressions.interpolate(text, SCOPE) == 'restart nginx x3 true [1,"two"]'


def test_values_in_lists_and_mappings_are_replaced_and_keys_are_not() -> None:
    value = {"${{ inputs.service }}": ["${{ inputs.count }}", {"a": "${{ inputs.service }}"}]}
    wanted = {"${{ inputs.service }}": [3, {"a": "nginx"}]}
    assert expressions.interpolate(value, SCOPE) == wanted


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("${{ inputs.nope }}", "inputs has no nope"),
        ("${{ steps.space.output.filesystems[3] }}", "steps.space.output.filesystems has no [3]"),
        ("${{ other.x }}", "no 'other'"),
        ("a ${{ inputs.none }}", "inputs.none is null"),
        ("${{ inputs.service.upper() }}", "path such as"),
        ("${{ 7*7 }}", "path such as"),
        ("${{ inputs.service", "path such as"),
        ("${{}}", "path such as"),
        ("${{ inputs.__class__.__mro__ }}", "has no __class__"),
        ("${{ inputs.service.__class__ }}", "has no __class__"),
    ],
)
def test_what_cannot_be_resolved_is_named(text: str, part: str) -> None:
    with pytest.raises(ExpressionError) as error:
        expressions.interpolate(text, SCOPE)
    assert part in str(error.value)


@pytest.mark.parametrize(
    "text", ["{{7*7}}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "%(x)s", "$(id)", "$x"]
)
def test_other_template_languages_stay_text(text: str) -> None:
    assert expressions.interpolate(text, SCOPE) == text


def test_a_doubled_dollar_writes_the_characters_themselves() -> None:
    assert expressions.interpolate("$${{ inputs.count }}", SCOPE) == "${{ inputs.count }}"
    assert expressions.interpolate("${{ '${{' }} x }}", SCOPE) == "${{ x }}"


def test_references_are_listed_by_root_and_path() -> None:
    value = {"a": ["x ${{ steps.space.output.filesystems[0] }}"], "b": "${{ inputs.service }}"}
    assert expressions.references(value) == {
        ("steps", ("space", "output", "filesystems", 0)),
        ("inputs", ("service",)),
    }


sneaky = st.text(alphabet=st.sampled_from("${}' abcsteps.inputs"), max_size=30) | st.sampled_from(
    ["${{ inputs.other }}", "${{ steps.s.output }}", "$", "$$", "{{", "$${{", "${{ '", "}}"]
)


@given(sneaky)
def test_an_inserted_value_is_never_read_again(value: str) -> None:
    scope = {"inputs": {"a": value, "other": "SECRET"}}
    assert expressions.interpolate("${{ inputs.a }}", scope) == value
    assert expressions.interpolate("<${{ inputs.a }}>", scope) == f"<{value}>"


@given(sneaky, sneaky, sneaky)
def test_a_value_inserted_beside_a_kept_reference_survives_the_later_pass(
    first: str, second: str, output: str
) -> None:
    text = (
        "${{ inputs.a }}${{ steps.s.output }}|${{ inputs.b }}${{ inputs.a }}${{ steps.s.output }}"
    )
    early = {"inputs": {"a": first, "b": second, "other": "SECRET"}}
    kept = expressions.interpolate(text, early, keep=["steps"])
    late = {"steps": {"s": {"output": output}}}
    wanted = f"{first}{output}|{second}{first}{output}"
    assert expressions.interpolate(kept, late) == wanted


def test_a_kept_structure_is_escaped_as_a_whole() -> None:
    value = ["${{ steps.s.output }}", "${{ inputs.a }}", "plain"]
    early = {"inputs": {"a": "${{ steps.s.output }}"}}
    kept = expressions.interpolate(value, early, keep=["steps"])
    done = expressions.interpolate(kept, {"steps": {"s": {"output": 1}}})
    assert done == [1, "${{ steps.s.output }}", "plain"]


def test_a_text_may_not_grow_without_bound() -> None:
    with pytest.raises(ExpressionError, match="grew"):
        expressions.interpolate("${{ inputs.a }}" * 20, {"inputs": {"a": "x" * 100_000}})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("steps.space.output.filesystems[0].use_percent < 95", True),
        ("steps['my-step'].output['with space'] == 2", False),
        ("inputs.count == 3 && inputs.service.startsWith('ng')", True),
        ("steps.space.output.filesystems.exists(f, f.use_percent > 90)", False),
        ("has(inputs.nope)", False),
    ],
)
def test_conditions_are_true_or_false(text: str, wanted: bool) -> None:
    assert expressions.evaluate_bool(text, SCOPE) is wanted


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("inputs.nope == 1", "no key 'nope'"),
        ("nope.x == 1", "nope"),
        ("inputs.count", "expected true or false"),
        ("inputs.service < 1", "overload"),
        ("steps.space.output.filesystems[9].x == 1", "out of bounds"),
        ("1/0 == 1", "zero"),
        ("1 +", "syntax error at column 4"),
        ("", "empty"),
        ("${{ inputs.count }} == 3", "without ${{ }}"),
        ("true || " * 1000 + "true", "longer than"),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", "nested"),
    ],
)
def test_a_condition_that_cannot_be_judged_says_why(text: str, part: str) -> None:
    with pytest.raises(ExpressionError) as error:
        expressions.evaluate_bool(text, SCOPE)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_the_syntax_of_a_condition_can_be_checked_without_values() -> None:
    assert expressions.check_expression("steps.a.output.x > 1") is None
    assert "column" in str(expressions.check_expression("a ==="))
    wrong = expressions.check_expression("steps.my-step.output", roots=["steps", "inputs"])
    assert "unknown name 'step'" in str(wrong)
    assert "steps['my-step']" in str(wrong)
    looped = "steps.a.output.l.exists(x, x == inputs.y)"
    assert expressions.check_expression(looped, roots=["steps", "inputs"]) is None


def test_a_condition_tells_the_paths_it_reads() -> None:
    text = "steps['my-step'].output.x > 1 && inputs.name.startsWith('steps.z') && size(item) > 0"
    assert expressions.expression_references(text) == {
        ("steps", ("my-step", "output", "x")),
        ("inputs", ("name",)),
        ("item", ()),
    }


@given(st.text(max_size=80))
def test_no_text_makes_conditions_raise_anything_else(text: str) -> None:
    assert isinstance(expressions.check_expression(text), str | None)
    with contextlib.suppress(ExpressionError):
        expressions.evaluate_bool(text, SCOPE)

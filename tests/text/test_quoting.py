"""Names and values in statements that are shown."""

from __future__ import annotations

from lastgood.text.quoting import argument, identifier, literal


def test_a_name_is_one_identifier_and_a_text_one_literal() -> None:
    assert identifier("crm") == '"crm"'
    assert identifier('crm"; DROP TABLE x; --') == '"crm""; DROP TABLE x; --"'
    assert literal("it's") == "'it''s'"
    assert literal("a\\b") == "E'a\\\\b'"


def test_an_argument_is_no_option() -> None:
    assert [argument(each) for each in ("shop", "my shop", "--config=/tmp/x.toml")] == [
        "shop",
        "'my shop'",
        "-- --config=/tmp/x.toml",
    ]

"""The user's own rules from ``lastgood.toml``: a query, its expected result, and a weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial

import psycopg
from pglast import parse_sql, parser
from psycopg import sql

from lastgood.command.validate.catalogue import Catalogue
from lastgood.command.validate.reader import RuleReader
from lastgood.command.validate.rule import SAMPLES, Mode, Rule, RuleFinding, RuleKind, RuleTask, sample_text
from lastgood.config import tables
from lastgood.text.units import counted

KIND = "own"
_CURSOR = "lastgood_rule"
# Errors not caused by the rule; they are reported alike for all kinds.
_NOT_ITS_FAULT = ("57014", "55P03", "42501", "40001")
# Rejected because the query would write: in a read-only transaction, or in a cursor.
_WRITES = ("25006", "0A000")
_BOOL = 16
_NUMBERS = frozenset({20, 21, 23, 26, 700, 701, 1700})

Value = Decimal | bool | str | None


class InvalidRule(Exception):
    """The rule cannot be evaluated; the text is the reason."""


def _find(catalogue: Catalogue, mode: Mode) -> Iterator[RuleTask]:
    for each in catalogue.settings.rules:
        if mode == "full" or each.quick:
            yield RuleTask((Rule(each.name, KIND, each.severity, weight=each.weight),), partial(_check, each))


def _check(rule: tables.OwnRule, reader: RuleReader, sample: float | None) -> Sequence[RuleFinding]:
    reader.rows(sql.SQL("SELECT pg_catalog.set_config('search_path', %s, true)"), [reader.path])
    try:
        if rule.expect is None and rule.at_least is None and rule.at_most is None:
            finding = _violations(rule, reader)
        else:
            finding = _value(rule, reader)
    except InvalidRule as error:
        finding = RuleFinding(message=f"cannot evaluate the rule: {error}", failed=True)
    except psycopg.Error as error:
        if reader.connection.closed or error.sqlstate is None or error.sqlstate in _NOT_ITS_FAULT:
            raise
        only = "rules must not write: " if error.sqlstate in _WRITES else ""
        finding = RuleFinding(message=f"cannot evaluate the rule: {only}{error.diag.message_primary}", failed=True)
    if finding.failed:
        finding = replace(finding, hint=f'Fix the query of rule "{rule.name}" in lastgood.toml.', percent=0.0)
    return [replace(finding, query=rule.query)]


def _violations(rule: tables.OwnRule, reader: RuleReader) -> RuleFinding:
    """Evaluate a rule whose rows are the violations."""
    names, rows = _open(reader, rule.query, SAMPLES)
    count = len(rows)
    if count == SAMPLES:
        count += reader.connection.execute(sql.SQL("MOVE FORWARD ALL FROM {}").format(_cursor())).rowcount
    reader.connection.execute(sql.SQL("CLOSE {}").format(_cursor()))
    samples = tuple(sample_text(names, [None if value is None else str(value) for value in row]) for row in rows)
    if rule.of is None:
        return RuleFinding(count, f"{counted(count, 'row')} found, none expected" if count else "", samples=samples)
    total = _number(_single_value(reader, rule.of, '"of"'), '"of"')
    percent = 100.0 if total <= 0 else max(0.0, 100.0 * float(total - count) / float(total))
    valid = max(Decimal(0), total - count)
    return RuleFinding(
        count,
        f"{valid:,} of {total:,} rows are valid, {percent:.1f} %"
        + (f"; at least {rule.threshold:g} % expected" if percent < rule.threshold < 100 else "")
        + (f'; the query returns {counted(count, "row")}, more than "of" counts' if count > total else ""),
        rows=int(total),
        samples=samples,
        percent=percent,
        passes=percent >= rule.threshold if rule.threshold < 100 else count == 0,
    )


def _value(rule: tables.OwnRule, reader: RuleReader) -> RuleFinding:
    """Evaluate a rule whose query returns one value."""
    value = _single_value(reader, rule.query, "the query")
    if rule.expect is not None:
        passes = _equal(value, rule.expect)
        # If only the types differ, quotes distinguish the text from the number or boolean.
        alike = not passes and _literal(value) == _literal(rule.expect)
        shown, expected = _literal(value, alike), f"expected {_literal(rule.expect, alike)}"
    else:
        number, shown = _number(value, "the query"), _literal(value)
        passes = not (
            (rule.at_least is not None and number < Decimal(str(rule.at_least)))
            or (rule.at_most is not None and number > Decimal(str(rule.at_most)))
        )
        limits = [f"at least {rule.at_least:g}"] if rule.at_least is not None else []
        limits += [f"at most {rule.at_most:g}"] if rule.at_most is not None else []
        expected = f"expected {' and '.join(limits)}"
    message = f"the value is {shown}" if passes else f"the value is {shown}, {expected}"
    return RuleFinding(0 if passes else 1, message, passes=passes)


def _literal(value: Value | float, quoted: bool = False) -> str:
    """Render a value as in SQL and TOML."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if quoted and isinstance(value, str) else str(value)


def _cursor() -> sql.Identifier:
    return sql.Identifier(_CURSOR)


def _open(reader: RuleReader, query: str, count: int) -> tuple[list[str], list[tuple[Value, ...]]]:
    """Open a cursor for a query of the user. Return its column names and first rows."""
    _ = reader.remaining
    text = query.strip().rstrip(";")
    _refuse_other_than_one_select(text)
    # The user's own text, from their own file. The extended protocol accepts only one command: a COMMIT in the text
    # would end the read-only transaction.
    declare = sql.SQL("DECLARE {} NO SCROLL CURSOR FOR ").format(_cursor()) + sql.SQL(text)
    reader.connection.execute(declare, binary=True)
    cursor = reader.connection.execute(sql.SQL("FETCH {} FROM {}").format(count, _cursor()))
    result = cursor.pgresult
    assert result is not None, "FETCH has a result"
    types = [result.ftype(column) for column in range(result.nfields)]
    rows = [
        tuple(_read(result.get_value(row, column), type_) for column, type_ in enumerate(types))
        for row in range(result.ntuples)
    ]
    return [each.name for each in cursor.description or ()], rows


def _read(value: bytes | None, type_: int) -> Value:
    """Convert numbers and booleans; other values stay text, because Python has no infinite time stamp."""
    if value is None:
        return None
    text = value.decode("utf-8", "replace")
    if type_ == _BOOL:
        return text == "t"
    return Decimal(text) if type_ in _NUMBERS else text


def _refuse_other_than_one_select(text: str) -> None:
    try:
        statements = parse_sql(text)
    except parser.ParseError:
        return  # the server's grammar may be newer; it reports the error
    if len(statements) != 1:
        raise InvalidRule(f"it must be one SELECT, not {len(statements)} commands")
    if type(statements[0].stmt).__name__ != "SelectStmt":
        raise InvalidRule("it must be a SELECT")


def _single_value(reader: RuleReader, query: str, what: str) -> Value:
    names, rows = _open(reader, query, 2)
    reader.connection.execute(sql.SQL("CLOSE {}").format(_cursor()))
    if len(names) != 1 or len(rows) != 1:
        columns = "1 column" if len(names) == 1 else f"{len(names)} columns"
        count = {0: "no row", 1: "1 row"}.get(len(rows), "several rows")
        raise InvalidRule(f"{what} must return one value, but returns {count} with {columns}")
    return rows[0][0]


def _number(value: Value, what: str) -> Decimal:
    if not isinstance(value, Decimal) or value.is_nan():
        raise InvalidRule(f"{what} must return a number, but returns {'NULL' if value is None else repr(str(value))}")
    return Decimal(str(value))


def _equal(value: Value, expected: tables.Expected) -> bool:
    if isinstance(expected, bool) or isinstance(value, bool):
        return value is expected
    if isinstance(expected, int | float) and isinstance(value, Decimal):
        return value == Decimal(str(expected))
    return str(value) == str(expected)


OWN = RuleKind(
    KIND,
    "your own rules",
    "The rules that you define in lastgood.toml as [[validate.rules]].",
    ("quick", "full"),
    "blocker or warning",
    _find,
)

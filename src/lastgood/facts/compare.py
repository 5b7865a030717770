"""Comparison of two sets of facts: their differences, and what could not be compared, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

from lastgood.dump.names import Relation, quoted
from lastgood.facts import DigestRules, Facts, FactsDifference, ObjectFacts, TableFacts, moments
from lastgood.models import Frozen
from lastgood.text.units import counted

_Value = TypeVar("_Value")

# Since 12 floating-point numbers are written in their shortest exact form; between 12 and 18 COPY text of equal
# rows is the same.
FIRST_MAJOR_OF_THIS_TEXT = 12
NOT_RECORDED = "the restore point does not record it"


class TableComparison(Frozen):
    """One table of the expected facts: what was expected, what was found, and whether they are equal.

    ``equal`` is None when the numbers of rows agree and contents could not be compared. ``found_rows`` is None when
    the table is missing.
    """

    schema_name: str
    name: str
    rows: int
    digest: str | None
    found_rows: int | None
    found_digest: str | None
    equal: bool | None


class FactsComparison(Frozen):
    """``differences`` is empty if all compared facts are equal. ``tables`` has one entry for each expected table, in
    its order. ``not_compared``: omissions and their reasons, a sentence each.
    """

    differences: tuple[FactsDifference, ...]
    tables: tuple[TableComparison, ...]
    not_compared: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether all compared facts are equal."""
        return not self.differences

    @property
    def exact(self) -> bool:
        """Whether all facts are equal, including the content of each table."""
        return self.equal and all(table.equal for table in self.tables)


def compare(expected: Facts, found: Facts, *, same: Collection[Relation] = ()) -> FactsComparison:
    """Compare the facts that both sides have. Kinds of differences: ``table``, ``columns``, ``rows``, ``content``,
    ``newest``, ``sequence``, ``large objects``, ``extension``, ``migration``, ``object`` (only on one side, or their
    number), ``definition`` (the same object with another definition). ``same``: tables whose rows were compared byte
    for byte.
    """
    bare = {language.name for side in (expected, found) for language in side.languages}
    expected, found = (_with_languages(side, bare) for side in (expected, found))
    differences: list[FactsDifference] = []
    tables: list[TableComparison] = []
    not_compared: list[str] = []
    rules = expected.rules
    if rules.time_zone is None and expected.zone_samples and expected.zone_samples == found.zone_samples:
        rules = rules.model_copy(update={"time_zone": found.rules.time_zone})
    by_name = {(table.schema_name, table.name): table for table in found.tables}
    for table in expected.tables:
        other = by_name.pop((table.schema_name, table.name), None)
        name = f"{table.schema_name}.{table.name}"
        result, different, why = _table(
            table, other, rules, found.rules, Relation(table.schema_name, table.name) in same
        )
        if name in expected.not_recorded and {each.kind for each in different} == {"rows"}:
            result, different = result.model_copy(update={"equal": None}), []
            why = [f'The rows of table "{name}" were not compared: {NOT_RECORDED}.']
        tables.append(result)
        differences += different
        not_compared += why
    for other in by_name.values():
        name = f"{other.schema_name}.{other.name}"
        differences.append(FactsDifference(kind="table", what=name, expected="absent", found=_rows(other.rows)))
    sequence_differences, why = _sequences(expected, found)
    differences += sequence_differences
    not_compared += why
    differences += _large_objects(expected, found)
    differences += _extensions(expected, found)
    differences += _migration(expected, found)
    object_differences, why = _objects(expected, found)
    return FactsComparison(
        differences=(*differences, *object_differences),
        tables=tuple(tables),
        not_compared=(*not_compared, *why),
    )


def _with_languages(facts: Facts, bare: Collection[str]) -> Facts:
    """Facts of a dump in which extensions become languages if the other side has them as languages."""
    named = {each.name for each in facts.extensions if each.as_language and each.name in bare}
    if not named:
        return facts
    counts = Counter(facts.object_counts)
    counts["language"] += len(named)
    objects = [*facts.objects, *(ObjectFacts(kind="language", identity=quoted(name)) for name in sorted(named))]
    return facts.model_copy(
        update={
            "extensions": tuple(each for each in facts.extensions if each.name not in named),
            "object_counts": dict(counts),
            "objects": tuple(objects),
        }
    )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def _table(
    expected: TableFacts, found: TableFacts | None, rules: DigestRules, other_rules: DigestRules, same: bool
) -> tuple[TableComparison, list[FactsDifference], list[str]]:
    name = f"{expected.schema_name}.{expected.name}"
    differences: list[FactsDifference] = []
    why: list[str] = []
    equal: bool | None = False
    if found is None:
        differences.append(FactsDifference(kind="table", what=name, expected=_rows(expected.rows), found="missing"))
    elif expected.columns != found.columns:
        texts = [", ".join(columns) or "none" for columns in (expected.columns, found.columns)]
        differences.append(FactsDifference(kind="columns", what=name, expected=texts[0], found=texts[1]))
    if found is not None and expected.rows != found.rows:
        differences.append(
            FactsDifference(kind="rows", what=name, expected=_rows(expected.rows), found=_rows(found.rows))
        )
    if found is not None and not differences:
        reason = _not_comparable(expected, found, rules, other_rules)
        # Equal digests prove equal content under any rules; only unequal ones need the same rules.
        if same or (expected.digest is not None and expected.digest == found.digest):
            equal = True
        elif not reason:
            differences.append(
                FactsDifference(
                    kind="content", what=name, expected=f"digest {expected.digest}", found=f"digest {found.digest}"
                )
            )
        else:
            equal = None
            newest, incomparable = _newest(expected, found, differences)
            compared = "its number of rows" + (f" and the newest {', '.join(newest)}" if newest else "")
            why.append(f'The content of table "{name}" was not compared, only {compared}: {reason}.')
            why += incomparable
            if differences:
                equal = False
    result = TableComparison(
        schema_name=expected.schema_name,
        name=expected.name,
        rows=expected.rows,
        digest=expected.digest,
        found_rows=found.rows if found is not None else None,
        found_digest=found.digest if found is not None else None,
        equal=equal,
    )
    return result, differences, why


def _newest(expected: TableFacts, found: TableFacts, differences: list[FactsDifference]) -> tuple[list[str], list[str]]:
    """Compare the newest time stamps, those with offsets as instants. Returns the compared columns, and a sentence for
    each one that could not be compared."""
    compared, incomparable = [], []
    for column, one in expected.newest.items():
        other = found.newest.get(column)
        if other is None:
            continue
        what = f"{expected.schema_name}.{expected.name}.{column}"
        equal = moments.same(one, other)
        if equal is None:
            incomparable.append(f'The newest "{what}" was not compared: it is written as "{one}" and as "{other}".')
            continue
        compared.append(column)
        if not equal:
            differences.append(FactsDifference(kind="newest", what=what, expected=one, found=other))
    return compared, incomparable


def _not_comparable(expected: TableFacts, found: TableFacts, rules: DigestRules, other: DigestRules) -> str:
    """The reason why unequal digests of these two would prove nothing; empty if they are comparable."""
    for side in (expected, found):
        if side.digest is None:
            return side.why_no_digest or "its rows have no digest"
    if rules.version != other.version:
        return "the digests were made by different versions of lastgood"
    if rules.client_encoding != other.client_encoding:
        return f"text was written in {rules.client_encoding} and in {other.client_encoding}"
    if rules.bytea_output != other.bytea_output:
        return f"bytea was written in the formats {rules.bytea_output} and {other.bytea_output}"
    majors = (rules.server_major, other.server_major)
    if majors[0] != majors[1] and not all(major and major >= FIRST_MAJOR_OF_THIS_TEXT for major in majors):
        one, two = (f"PostgreSQL {major}" if major else "an unknown version of PostgreSQL" for major in majors)
        return f"{one} and {two} may format the same values differently"
    if expected.zoned and found.zoned:
        if rules.time_zone is None or other.time_zone is None:
            return "the time zone of the time stamps is unknown"
        if rules.time_zone != other.time_zone:
            return f"the time stamps are in different time zones ({rules.time_zone} and {other.time_zone})"
    return ""


def _pairs(
    expected: Iterable[tuple[str, _Value]], found: Iterable[tuple[str, _Value]]
) -> Iterator[tuple[str, _Value | None, _Value | None]]:
    """Join two named lists: each name once, expected ones first."""
    others = dict(found)
    for name, value in expected:
        yield name, value, others.pop(name, None)
    for name, value in others.items():
        yield name, None, value


def _sequences(expected: Facts, found: Facts) -> tuple[list[FactsDifference], list[str]]:
    def named(facts: Facts) -> Iterator[tuple[str, str]]:
        for one in facts.sequences:
            state = "last value" if one.is_called else "next value"
            yield f"{one.schema_name}.{one.name}", f"{state} {one.last_value}"

    differences: list[FactsDifference] = []
    why: list[str] = []
    for name, one, other in _pairs(named(expected), named(found)):
        recorded = name not in expected.not_recorded
        if recorded and name in found.not_recorded:
            other = "not recorded"
        if recorded and one != other:
            differences.append(
                FactsDifference(kind="sequence", what=name, expected=one or "absent", found=other or "missing")
            )
        elif one != other:
            why.append(f'The position of sequence "{name}" was not compared: {NOT_RECORDED}.')
    return differences, why


def _large_objects(expected: Facts, found: Facts) -> Iterator[FactsDifference]:
    one, other = expected.large_objects, found.large_objects
    if one.count != other.count:
        texts = [counted(side.count, "large object") for side in (one, other)]
        yield FactsDifference(kind="large objects", what="large objects", expected=texts[0], found=texts[1])
    elif one.digest != other.digest:
        texts = [f"digest {side.digest}" for side in (one, other)]
        yield FactsDifference(kind="large objects", what="large objects", expected=texts[0], found=texts[1])


def _extensions(expected: Facts, found: Facts) -> Iterator[FactsDifference]:
    def named(facts: Facts) -> Iterator[tuple[str, str]]:
        for one in facts.extensions:
            yield one.name, one.version or ""

    for name, one, other in _pairs(named(expected), named(found)):
        if one is None or other is None:
            here = ["absent" if side is None else f"version {side}" if side else "installed" for side in (one, other)]
            yield FactsDifference(
                kind="extension", what=name, expected=here[0], found=here[1].replace("absent", "missing")
            )
        elif one and other and one != other:
            yield FactsDifference(kind="extension", what=name, expected=f"version {one}", found=f"version {other}")


def _migration(expected: Facts, found: Facts) -> Iterator[FactsDifference]:
    one, other = expected.migration, found.migration
    if one is None:
        return
    if other is None or one.table != other.table:
        text = "no migrations table" if other is None else other.table
        yield FactsDifference(kind="migration", what="migrations table", expected=one.table, found=text)
        return
    if one.version != other.version or one.applied != other.applied:
        texts = [f"version {side.version or 'none'}, {side.applied} applied" for side in (one, other)]
        yield FactsDifference(kind="migration", what=one.table, expected=texts[0], found=texts[1])


def _objects(expected: Facts, found: Facts) -> tuple[list[FactsDifference], list[str]]:
    differences: list[FactsDifference] = []
    why: list[str] = []
    # A dump's names are only as exact as its statements, and other rules may produce other names: in these cases
    # numbers are compared.
    definitions = (expected.rules.definitions, found.rules.definitions)
    exactly = expected.origin == found.origin == "database" and definitions[0] == definitions[1]
    counts = [_counts(facts) for facts in (expected, found)]
    if not counts[0] or not counts[1]:
        return [], ["Schema objects were not compared: only one side has them."] if any(counts) else []
    # A kind without a count in a dump has no objects in it.
    counted = sorted(set(counts[0]) | set(counts[1])) if not exactly else sorted(set(counts[0]) & set(counts[1]))
    missing = sorted(set(counts[0]) ^ set(counts[1]))
    if missing and exactly:
        why.append(f"Only one side has counted objects of these kinds: {', '.join(missing)}.")
    majors = {facts.rules.server_major for facts in (expected, found)}
    by_kind = [_by_kind(facts) for facts in (expected, found)]
    for kind in counted:
        objects = [side.get(kind, {}) for side in by_kind]
        only = [sorted(objects[0].keys() - objects[1].keys()), sorted(objects[1].keys() - objects[0].keys())]
        if exactly:
            for identity in only[0]:
                what = f"{kind} {identity}"
                differences.append(FactsDifference(kind="object", what=what, expected="present", found="missing"))
            for identity in only[1]:
                what = f"{kind} {identity}"
                differences.append(FactsDifference(kind="object", what=what, expected="absent", found="present"))
        else:
            numbers = [side.get(kind, 0) for side in counts]
            if numbers[0] != numbers[1]:
                differences.append(
                    FactsDifference(
                        kind="object",
                        what=f"number of {_plural(kind)}",
                        expected=_number(numbers[0], only[0]),
                        found=_number(numbers[1], only[1]),
                    )
                )
        if exactly and len(majors) == 1:
            differences += _definitions(kind, objects[0], objects[1])
    if expected.origin == found.origin == "database" and not exactly:
        why.append("Definitions of objects were not compared: those of one side come from another version of lastgood.")
    if exactly and len(majors) > 1:
        why.append("Definitions of objects were not compared: the servers' major versions differ.")
    return differences, why


def _plural(kind: str) -> str:
    """``policies``, ``indexes``, ``operator classes``, ``tables``."""
    if kind.endswith("y") and not kind.endswith("ey"):
        return f"{kind[:-1]}ies"
    return f"{kind}es" if kind.endswith(("s", "x")) else f"{kind}s"


def _by_kind(facts: Facts) -> dict[str, dict[str, ObjectFacts]]:
    found: dict[str, dict[str, ObjectFacts]] = {}
    for one in facts.objects:
        found.setdefault(one.kind, {})[one.identity] = one
    return found


# Kinds that only dumps have.
_DUMP_ONLY = frozenset({"subscription"})


def _counts(facts: Facts) -> dict[str, int]:
    return {kind: number for kind, number in facts.object_counts.items() if kind not in _DUMP_ONLY}


def _number(count: int, only_here: list[str]) -> str:
    return f"{count}" + (f" (with {', '.join(only_here[:5])})" if only_here else "")


def _definitions(kind: str, ones: dict[str, ObjectFacts], others: dict[str, ObjectFacts]) -> Iterator[FactsDifference]:
    for identity, one in ones.items():
        other = others.get(identity)
        if other is not None and one.digest and other.digest and one.digest != other.digest:
            yield FactsDifference(
                kind="definition",
                what=f"{kind} {identity}",
                expected=f"definition {one.digest}",
                found=f"definition {other.digest}",
            )

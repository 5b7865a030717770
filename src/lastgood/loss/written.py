"""The column of a table with the time of writing, and the number of rows written after a restore point.

A time with another meaning (a birthday, a due date, a period of validity, a schedule) is never counted, nor is a bare
date, nor a time in the future.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from psycopg import sql

from lastgood.postgres.server import Connection, only_row

# How far an application's clock may be ahead of the server's.
SKEW = "5 minutes"

# Parts of names, without separators and accents, in lower case.
_AROUND = (
    "at|on|date|time|datetime|timestamp|timestamptz|ts|utc|gmt|tz|row|record|rec|sys|db|last|was|is|when|"
    "am|um|le|de|el|en|il|em|op|w|dne|datum|data|fecha|zeit|zeitpunkt|uhrzeit|tidspunkt|dato|tarihi|hora|heure"
)
_BIRTH = (
    "create|created|creation|insert|inserted|insertion|add|added|record|recorded|log|logged|occurred|happened|"
    "received|captured|ingested|entered|"
    "erstellt|erstellung|erstellungs|angelegt|erfasst|erfassung|erfassungs|eingefugt|eingefuegt|anlage|"
    "cree|creee|ajoute|ajout|creado|creada|creacion|alta|creato|creata|creazione|inserito|criado|criada|criacao|"
    "aangemaakt|aanmaak|utworzono|utworzenia|utworzony|skapad|skapades|oprettet|opprettet|vytvoreno|olusturma|"
    "olusturulma"
)
_CHANGE = (
    "update|updated|modify|modified|modification|change|changed|edit|edited|write|written|touched|saved|"
    "geandert|geaendert|anderung|aenderung|anderungs|aenderungs|aktualisiert|bearbeitet|"
    "modifie|modifiee|misajour|actualizado|actualizada|actualizacion|modificado|modificada|modificacion|"
    "modificato|modifica|aggiornato|aggiornamento|atualizado|atualizada|atualizacao|modificacao|"
    "gewijzigd|wijziging|bijgewerkt|zmodyfikowano|modyfikacji|aktualizacji|andrad|uppdaterad|opdateret|oppdatert|"
    "endret|upraveno|zmeneno|guncelleme|guncellenme"
)
_BORN = re.compile(rf"(?:{_AROUND})*(?:{_BIRTH})(?:{_AROUND})*|ts|timestamp")
_CHANGED = re.compile(rf"(?:{_AROUND})*(?:{_CHANGE})(?:{_AROUND})*")
# Times in the future or the distant past, even if their default is the present.
_OTHER = re.compile(
    r"due|until|expir|expiry|schedul|deadline|birth|born|start|begin|end(?:s|ed)?(?:at|on|date|time)?$|valid|next|run|"
    r"remind|plan|effective|visible|publish|available|from|till|appoint|event|renew|trial|cancel|delet|archiv|"
    r"geburt|gebor|fallig|faellig|gultig|gueltig|ablauf|termin|frist|echeance|naissance|vencimiento|nacimiento|"
    r"scadenza|nascita|vencimento|nascimento|verval|geboorte"
)
# The present as a default, and nothing else: now() plus an interval is an end.
_NOW = re.compile(
    r"\(*(?:timezone\('[^']*'(?:::text)?, *)?\(*"
    r"(?:now\(\)|CURRENT_TIMESTAMP(?:\(\d\))?|LOCALTIMESTAMP(?:\(\d\))?|(?:clock|statement|transaction)_timestamp\(\)"
    r"|'now'::text)\)*"
    r"(?: AT TIME ZONE '[^']*'(?:::text)?)?\)*(?:::timestamp(?:\(\d\))?(?: with(?:out)? time zone)?)?\)*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """A column of a time stamp type. ``zoned``: it is a timestamptz. ``default``: its expression, empty without one."""

    name: str
    zoned: bool
    default: str = ""


def writing_column(columns: Iterable[TimeColumn]) -> TimeColumn | None:
    """The best column for the time of writing, by this evidence: a name for the creation, a default of now(), a name
    for the last change. None if no column qualifies."""
    ranked = [(rank, place, each) for place, each in enumerate(columns) if (rank := _rank(each)) is not None]
    return min(ranked, key=lambda each: each[:2])[2] if ranked else None


def _rank(column: TimeColumn) -> int | None:
    name = _plain(column.name)
    present = _NOW.fullmatch(column.default) is not None
    if _BORN.fullmatch(name):
        return 0 if present else 1
    if _CHANGED.fullmatch(name):
        return 3 if present else 4
    return 2 if present and not _OTHER.search(name) else None


def _plain(name: str) -> str:
    """A name in lower case, without accents and separators."""
    letters = unicodedata.normalize("NFKD", name).lower().replace("ß", "ss")
    return re.sub(r"[^a-z]", "", letters)


@dataclass(frozen=True, slots=True)
class Clock:
    """The server's present: as an instant, and as the latest possible time stamp without a zone."""

    now: datetime
    local: datetime

    @classmethod
    def read(cls, connection: Connection) -> Self:
        """Both, plus the tolerated skew of an application's clock."""
        row = only_row(
            connection,
            "SELECT now.at, greatest(now.at AT TIME ZONE 'UTC', now.at AT TIME ZONE z.reset_val)"
            " FROM (SELECT pg_catalog.statement_timestamp() + %s::interval) now (at), pg_catalog.pg_settings z"
            " WHERE z.name = 'TimeZone'",
            [SKEW],
        )
        return cls(*row)


@dataclass(frozen=True, slots=True)
class Since:
    """The moment after which rows count: that of the restore point, and its newest row as COPY text, if known.
    ``exact``: the moment is the server's own time."""

    made_at: datetime
    newest: str | None
    exact: bool


@dataclass(frozen=True, slots=True)
class WriteTime:
    """The time at which a row of a table was written: column ``by``. ``since``: one moment for each restore point."""

    by: TimeColumn
    clock: Clock
    since: tuple[Since, ...]

    def counts(self) -> list[sql.Composable]:
        """The expressions of a query that counts: the newest time of ``by`` that is not in the future, then the number
        of rows written after each moment: those newer than the restore point's newest row, or than its time where that
        row is unknown or in the future."""
        column, until = sql.Identifier(self.by.name), self._until
        present = sql.SQL("{0} <= {1} AND isfinite({0})").format(column, until)
        return [
            sql.SQL("(max({}) FILTER (WHERE {}))::timestamptz").format(column, present),
            *(
                sql.SQL("count(*) FILTER (WHERE {} > {} AND {})").format(column, self._after(each), present)
                for each in self.since
            ),
        ]

    @property
    def _until(self) -> sql.Composed:
        if self.by.zoned:
            return sql.SQL("{}::timestamptz").format(sql.Literal(self.clock.now))
        return sql.SQL("{}::timestamp").format(sql.Literal(self.clock.local))

    def _after(self, since: Since) -> sql.Composed:
        made = sql.SQL("{}::timestamptz").format(sql.Literal(since.made_at))
        if not self.by.zoned:
            made = sql.SQL("({} AT TIME ZONE 'UTC')").format(made)
        if since.newest is None:
            return made
        kind = sql.SQL("timestamptz" if self.by.zoned else "timestamp")
        row = sql.SQL("{}::{}").format(sql.Literal(since.newest), kind)
        latest = made if since.exact and self.by.zoned else self._until
        return sql.SQL("CASE WHEN {0} <= {1} THEN {0} ELSE {2} END").format(row, latest, made)

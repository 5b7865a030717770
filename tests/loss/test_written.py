"""The column with the time of writing: by names in several languages and by defaults, never a time of another kind."""

from __future__ import annotations

import pytest

from lastgood.loss.written import TimeColumn, writing_column

NOW = "now()"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "created_at",
            "createdAt",
            "CreatedOn",
            "create_date",
            "date_created",
            "creation_time",
            "gmt_create",
            "created",
        ),
        *("inserted_at", "insert_ts", "date_added", "row_created_at", "logged_at", "occurred_at", "ts", "timestamp"),
        *("erstellt_am", "angelegt_am", "Erstellungsdatum", "erfasst_am", "créé_le", "date_de_creation", "cree_le"),
        *("creado_en", "fecha_creacion", "fecha_alta", "data_creazione", "creato_il", "criado_em", "aangemaakt_op"),
        *("utworzono", "data_utworzenia", "skapad", "oprettet"),
        *("updated_at", "updatedAt", "last_modified", "modified_date", "write_date", "gmt_modified", "sys_updated_on"),
        *("geändert_am", "geaendert_am", "aktualisiert_am", "modifié_le", "actualizado_en", "fecha_modificacion"),
        *("data_modifica", "gewijzigd_op", "atualizado_em"),
    ],
)
def test_a_name_decides(name: str) -> None:
    assert writing_column([TimeColumn("due_at", True), TimeColumn(name, True)]) == TimeColumn(name, True)


@pytest.mark.parametrize(
    "name",
    [
        *("birthday", "birth_date", "geburtsdatum", "date_naissance", "due_at", "due_date", "faellig_am", "fällig"),
        *(
            "valid_until",
            "valid_from",
            "gueltig_bis",
            "scheduled_for",
            "scheduled_at",
            "expires_at",
            "expiry",
            "run_at",
        ),
        *(
            "starts_at",
            "ends_at",
            "end_date",
            "deadline",
            "remind_at",
            "publish_at",
            "next_run",
            "appointment",
            "termin",
        ),
        *(
            "trial_ends_at",
            "renews_on",
            "available_from",
            "effective_date",
            "date",
            "time",
            "at",
            "created_by",
            "last_login",
        ),
    ],
)
@pytest.mark.parametrize("default", ["", NOW])
def test_a_time_of_another_kind_does_not(name: str, default: str) -> None:
    if default and name in ("date", "time", "at", "created_by", "last_login"):
        return  # a default of the present is the time of writing
    assert writing_column([TimeColumn(name, True, default)]) is None


@pytest.mark.parametrize(
    "default",
    [
        *("now()", "CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP(3)", "LOCALTIMESTAMP", "clock_timestamp()"),
        *("timezone('utc'::text, now())", "(now() AT TIME ZONE 'utc'::text)", "statement_timestamp()"),
        *("(now())::timestamp without time zone", "transaction_timestamp()", "('now'::text)::timestamp with time zone"),
    ],
)
def test_a_default_of_the_present_decides(default: str) -> None:
    assert writing_column([TimeColumn("noted", True, default)]) == TimeColumn("noted", True, default)


@pytest.mark.parametrize(
    "default",
    [
        "(now() + '30 days'::interval)",
        "'2020-01-01 00:00:00+00'::timestamp with time zone",
        "(CURRENT_DATE + 1)",
        "f()",
    ],
)
def test_another_default_does_not(default: str) -> None:
    assert writing_column([TimeColumn("noted", True, default)]) is None


def test_when_a_row_was_made_comes_before_when_it_was_changed() -> None:
    columns = [
        TimeColumn("updated_at", True, NOW),
        TimeColumn("noted", True, NOW),
        TimeColumn("inserted_at", True),
        TimeColumn("created_at", True, NOW),
    ]
    chosen = []
    while best := writing_column(columns):
        chosen.append(best.name)
        columns.remove(best)
    assert chosen == ["created_at", "inserted_at", "noted", "updated_at"]

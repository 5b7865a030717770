"""A verdict on the terminal: short, however much was not looked at, and with what to do next."""

from __future__ import annotations

import io

from lastgood.command.validate import show
from lastgood.command.validate.rule import Rule, RuleFinding, SkipReason
from lastgood.command.validate.validate import RuleResult, ValidationVerdict
from lastgood.command.validate.verdict import conclude, result
from lastgood.screen.screen import Screen


def skipped(name: str, why: SkipReason, text: str, hint: str = "") -> RuleResult:
    return result(Rule(name, "required"), RuleFinding(message=text, hint=hint, skipped=why), 0.0)


def concluded(results: list[RuleResult]) -> ValidationVerdict:
    return conclude(
        results,
        mode="quick",
        database="crm",
        server_version="18.1",
        role="ann",
        confined=True,
        connections=2,
        threshold=85.0,
        remarks=(),
        seconds=1.0,
    )


def on_screen(verdict: ValidationVerdict) -> str:
    stream = io.StringIO()
    show.show(Screen(no_color=True, stdout=stream, width=80), verdict)
    return stream.getvalue()


def test_what_did_not_fit_into_the_time_is_one_paragraph() -> None:
    results = [skipped(f"required:public.t{number}", "time", "time limit reached", "Raise it.") for number in range(45)]
    assert on_screen(concluded(results)) == (
        'NO-GO (45 of 45 rules NOT checked): "crm"\n'
        "  --quick, 45 rules in 1.0 s on 2 connections, as ann, PostgreSQL 18.1\n"
        "\n"
        "Not checked\n"
        "  SKIPPED  required:public.t0, required:public.t1, required:public.t2,\n"
        "           required:public.t3, required:public.t4, required:public.t5,\n"
        "           required:public.t6, required:public.t7 and 37 more\n"
        "           time limit reached\n"
        "           Raise it.\n"
        "\n"
        "Remarks\n"
        "  45 of 45 rules were skipped because of the time limit\n"
        "  no rule could be checked, so the verdict is NO-GO\n"
        "\n"
        "Next\n"
        "  No violation was found, but the data could not be checked. Resolve the reasons\n"
        '    above under "Not checked", then run lastgood validate again.\n'
    )


def test_hundreds_of_reasons_are_counted() -> None:
    results = [skipped(f"required:s{number}.t", "privilege", f"denied {number}") for number in range(500)]
    results.append(result(Rule("index", "index"), RuleFinding(), 0.0))
    verdict = concluded(results)
    assert (verdict.verdict, verdict.remarks[-1]) == (
        "NO-GO",
        "only the catalogue could be checked, but no rows, so the verdict is NO-GO",
    )
    text = on_screen(verdict)
    assert text.count("SKIPPED") == 10
    assert "  and 490 more rules for 490 other reasons; --json lists all of them\n" in text

"""Which blocks of a text can be run, and what running them means."""

from __future__ import annotations

from pathlib import Path

from lastgood.command.guide.guide import ROLLBACK, blocks, run, select

TEXT = """# Title

## Names

```sh
# [names] What the others call
hello() { echo "hello $1"; }
```

```text
# [never] This is no command
false
```

### 1. First

```sh
# [start] Says hello
( set -eu
  hello you
  cat <<'END'
## no heading
END
)
```

```sh
echo 'a block without a name is an example'
```

## Second

```sh
# [hook-stop] Stops the application
echo stopped
```

```sh
# [swap] Fails
( set -eu
  hello again
  false
  echo 'not reached'
)
```

```sh
# [verify] Is not reached
echo verified
```
"""


def test_blocks_have_names_and_stand_under_headings() -> None:
    assert [(each.id, each.section, each.title) for each in blocks(TEXT)] == [
        ("names", "Names", "What the others call"),
        ("start", "1. First", "Says hello"),
        ("hook-stop", "Second", "Stops the application"),
        ("swap", "Second", "Fails"),
        ("verify", "Second", "Is not reached"),
    ]


def test_hooks_are_run_on_request_only() -> None:
    found = blocks(TEXT)
    assert [each.id for each in select(found, ROLLBACK)] == ["start", "swap", "verify"]
    assert [each.id for each in select(found, ROLLBACK, hooks=True)] == ["start", "hook-stop", "swap", "verify"]


def test_after_a_block_that_failed_no_other_is_begun(tmp_path: Path) -> None:
    found = blocks(TEXT)
    ran = list(run(found, select(found, ROLLBACK), {}, folder=tmp_path))
    assert [(each.block.id, each.status, each.output) for each in ran] == [
        ("start", 0, "hello you\n## no heading\n"),
        ("swap", 1, "hello again\n"),
    ]
    assert [each.succeeded for each in ran] == [True, False]


def test_a_block_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    found = blocks("## Only\n\n```sh\n# [names] None\n:\n```\n\n```sh\n# [start] Waits\nsleep 60\n```\n")
    (ran,) = run(found, select(found, ["start"]), {}, folder=tmp_path, seconds=0.2)
    assert (ran.status, ran.succeeded) == (None, False)

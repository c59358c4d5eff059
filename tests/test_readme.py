"""What the documents say is so: settings, commands, links, keys; and partners' examples are played."""

import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

import main
from flows import wave
from flows.instrument import load
from gateway.settings import PREFIX, SETTINGS
from storage.database import migrate, open_engine, reading
from tests.test_run import Running, running

__all__ = ["running"]

HERE = Path(__file__).resolve().parent.parent
#: Documents written by hand; the questionnaires in docs/ are printed from the data.
DOCUMENTS = [
    HERE / "README.md",
    HERE / "CHANGELOG.md",
    HERE / "bench" / "README.md",
    *(
        HERE / "docs" / f"{name}.md"
        for name in ("analysts", "api", "exports", "operations", "partners", "waves")
    ),
]
VERBS = set(typer.main.get_command(main.app).commands)  # type: ignore[attr-defined]


def table_rows(text: str) -> list[list[str]]:
    """Cells of the table rows in `text`, without head and rule."""
    rows = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_settings_table_is_the_code_s() -> None:
    text = (HERE / "README.md").read_text("utf-8")
    part = text.partition("<!-- settings")[2].partition("<!-- /settings -->")[0]
    assert table_rows(part) == [[f"`{PREFIX}{s.name}`", s.default, s.meaning] for s in SETTINGS]


def test_waves_md_describes_every_key_of_a_wave_file() -> None:
    text = (HERE / "docs" / "waves.md").read_text("utf-8")
    described = {row[0].strip("`"): row[2] for row in table_rows(text) if row[0].startswith("`")}
    tables = {f"{table}.{key}" for table, keys in wave._TABLES.items() for key in keys}
    quotas = {key for key in described if key.startswith("quota")}
    assert described.keys() - quotas == wave._KEYS.keys() | tables
    assert {key for key, default in described.items() if default == "required"} - quotas == {
        *wave._REQUIRED, "thanks.amount", "thanks.currency", "thanks.budget",
    }  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_named_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", (HERE / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?\bmake ([a-z]+)\b`", text)) <= targets
    assert set(re.findall(r"main\.py ([a-z]+)", text)) <= VERBS
    for variable in re.findall(rf"{PREFIX}[A-Z_]+", text):
        assert variable in {PREFIX + s.name for s in SETTINGS}


def test_the_drawn_and_printed_documents_are_the_data_s(tmp_path: Path) -> None:
    """If this fails: python main.py check --out docs"""
    command = [sys.executable, str(HERE / "main.py"), "check", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=HERE)
    assert {path.name for path in tmp_path.iterdir()} >= {"flow.svg", "questionnaire.en.md"}
    for made in tmp_path.iterdir():
        assert (HERE / "docs" / made.name).read_text("utf-8") == made.read_text("utf-8"), made.name


def test_the_two_commands_of_the_readme_are_the_makefile_s() -> None:
    text = (HERE / "README.md").read_text("utf-8")
    block = text.partition("```sh\n")[2].partition("```")[0]
    commands = [line.partition("#")[0].split() for line in block.splitlines()]
    assert commands == [["make", "run"], ["make", "test"]]
    for command in commands:
        subprocess.run([command[0], "-n", command[1]], cwd=HERE, check=True, capture_output=True)


def test_compose_mounts_the_wave_file() -> None:
    text = (HERE / "deploy" / "compose.yaml").read_text("utf-8")
    mounted = re.findall(r"- \./(\S+):(\S+):ro", text)
    assert mounted == [("wave.toml", "/etc/dial16/wave.toml")]
    assert (HERE / "deploy" / mounted[0][0]).is_file()
    assert f"{PREFIX}WAVE_FILE: {mounted[0][1]}" in text


def test_every_verb_is_in_the_readme() -> None:
    text = (HERE / "README.md").read_text("utf-8")
    assert VERBS and all(f"`{verb}`" in text for verb in VERBS)


def test_the_sql_for_analysts_runs(database_url: str) -> None:
    instrument = load(HERE / "flows" / "sdg_16_6_2")
    blocks = re.findall(r"```sql\n(.*?)```", (HERE / "docs" / "analysts.md").read_text("utf-8"), re.DOTALL)
    statements = [s for block in blocks for s in block.split(";") if s.strip()]
    assert len(statements) == 3
    engine = open_engine(database_url)
    migrate(engine, instrument)
    with reading(engine) as db:
        for statement in statements:
            if engine.dialect.name == "sqlite":
                statement = statement.replace("analytics.", "analytics_")
            assert list(db.exec_driver_sql(statement)) == []
    engine.dispose()


def test_the_examples_for_partners_are_true(running: Running) -> None:
    """Every curl of docs/partners.md, in order, against the running service: the reply shown is the reply."""
    text = (HERE / "docs" / "partners.md").read_text("utf-8")
    examples = re.findall(r"```sh\n(curl .*?)\n```\n```\n(.*?)\n```", text, re.DOTALL)
    assert len(examples) == 10
    url = f"{running.url}/hooks/africastalking/{running.secret()}/ussd"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for command, expected in examples:
        for name, path in (("URL", "ussd"), ("SMS", "sms"), ("AIRTIME", "airtime")):
            command = command.replace(f"${name}", url.removesuffix("ussd") + path)
        words = shlex.split(command)
        fields = [words[k + 1] for k, word in enumerate(words) if word == "-d"]
        headers = dict(words[k + 1].split(": ") for k, word in enumerate(words) if word == "-H")
        assert words[:2] == ["curl", "-s"] and all("%" in f or unquote(f) == f for f in fields)
        asked = urllib.request.Request(words[2], "&".join(fields).encode(), headers)
        try:
            with opener.open(asked, timeout=5) as reply:
                body = reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                body = error.read().decode()
        assert body == expected

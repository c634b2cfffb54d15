"""The URL of a database: wrong ones, missing drivers, and secrets that are never shown."""

import sys

import pytest
import servers

from sqlora.databases import database_url
from sqlora.databases.live import open_database
from sqlora.settings.command_line import load_settings
from sqlora.system import errors
from sqlora.system.errors import UserError


def opened(url):
    """What the attempt to open a database says; nothing of it may be the password."""
    with pytest.raises(UserError) as caught:
        open_database(url, 5).close()
    assert servers.PASSWORD not in str(caught.value)
    assert servers.QUOTED not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nofile.sqlite", "no SQLite file"),
        ("sqlite://", "no SQLite file"),
        ("sqlite:///nofile.db", "no SQLite file"),
        ("postgresql://u:pw@h:port/db", "not a valid URL"),
        ("postgresql://u:p@s@h/db", "more than one @"),
        ("postgresql://u:1?s@s@h/db", "more than one @"),
        ("nonesuch://u:pw@h/db", "does not know"),
        ("x" * 5000, "no SQLite file"),
        (f"postgresql://{'x' * 5000}/db", "DATABASE"),
        ("~nosuchuser/x.db", "home folder"),
        ("oracle://u:pw@h/db", "pip install 'oracledb'"),
        ("postgresql://u:pw@nohost.invalid/db", "nohost.invalid"),
    ],
)
def test_urls_that_lead_nowhere(url, message):
    assert message in opened(url)


def test_files_that_are_no_database(tmp_path):
    (tmp_path / "text.sqlite").write_text("name,age\n" * 200)
    (tmp_path / "empty.sqlite").touch()
    assert "not a database" in opened(str(tmp_path / "text.sqlite"))
    assert "it has no table" in opened(str(tmp_path / "empty.sqlite"))
    assert (tmp_path / "empty.sqlite").stat().st_size == 0


@pytest.mark.parametrize(
    ("url", "driver", "package"),
    [
        ("postgresql://u:pw@h/db", "psycopg", "psycopg[binary]"),
        ("mysql://u:pw@h/db", "pymysql", "PyMySQL"),
        ("mariadb://u:pw@h/db", "pymysql", "PyMySQL"),
        ("mssql+pymssql://u:pw@h/db", "pymssql", "pymssql"),
    ],
)
def test_a_driver_that_is_not_there(monkeypatch, url, driver, package):
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(UserError, match="pip install") as caught:
        database_url.make_engine(database_url.parse_url(url))
    assert f"pip install '{package}'" in str(caught.value)


def test_passwords_are_hidden_however_they_are_spelled():
    url = "postgresql://me:s3cr3t%40x@h/db?sslpassword=other-one"
    for text in ("s3cr3t@x", "s3cr3t%40x", "other-one"):
        assert database_url.hide_secrets(f"said {text}.", url) == "said ***."
    assert database_url.hide_secrets("a word and a", "mysql://u:a@h/db") == "*** word and ***"
    assert "s3cr3t" not in str(UserError("Got unexpected extra argument (mysql://me:s3cr3t/@x@h/db)"))


SECRET = "hunter two"


HOST = "localhost:1/db"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://{HOST}?password={SECRET}",
        f"postgresql://{HOST}?user=me&password=hunter%20two&x=1",
        f"postgresql://me:{SECRET}@{HOST}",
        f"mysql://me:{SECRET}@{HOST}?charset=nonesuch",
        f"mysql://{HOST}?password=hunter+two",
        f"postgresql://{HOST}?sslmode=nonesuch&sslpassword={SECRET}",
        f"postgresql:/me:{SECRET}@localhost/db",
        f"postgresql://me:{SECRET}@localhost:port/db",
        f"postgresql://me:{SECRET}@{HOST}?PASSWORD={SECRET}",
        f"sqlite:///nofile.db?password={SECRET}",
        f"nonesuch://me:{SECRET}@h/db",
        f"postgresql://{HOST}?passw%6Frd={SECRET}",
        f"mysql://{HOST}?passwd={SECRET}",
        f"postgresql://{HOST}?password={SECRET}&password={SECRET}",
        f"mysql://me:{SECRET}@{HOST}?ssl_ca=/no/file",
    ],
)
def test_no_secret_of_a_url_is_reported(url):
    messages = [database_url.hide_secrets(f"failed: {url}", url), errors.hide_passwords(f"unexpected argument ({url})")]
    for call in (lambda: open_database(url, 5).close(), lambda: load_settings(["--format", url], "", trains=False)):
        with pytest.raises(UserError) as caught:
            call()
        messages.append(str(caught.value))
    for text in messages:
        assert "hunter" not in text
        assert "two" not in text
    with pytest.raises(UserError) as caught:
        open_database(f"me:{SECRET}@h/db", 5).close()
    assert "hunter" not in str(caught.value)

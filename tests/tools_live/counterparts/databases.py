"""A real PostgreSQL, MariaDB and Redis, and a SQLite file."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from helpers.servers import MARIADB_ADMIN, Server

if TYPE_CHECKING:
    from helpers.postgres import Cluster
    from tools_live.place import Place

POSTGRES_PASSWORD = "a:b\\c 'd' #e"  # every character that some login file reads as its own
SHOP = """
CREATE TABLE orders (id int PRIMARY KEY, status text NOT NULL);
INSERT INTO orders VALUES (1, 'new'), (2, 'new'), (3, 'paid');
"""


@pytest.fixture(scope="session")
def database(
    place: Place,
    postgres: Cluster,
    mariadb: Server,
    redis_server: Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Place:
    """The product with four databases that have the same table."""
    folder = tmp_path_factory.mktemp("databases")
    _add_postgres(place, postgres)
    user, password = MARIADB_ADMIN
    where = f"--no-defaults -h127.0.0.1 -P{mariadb.port} -u{user} -p{password}"
    place.variables.update(
        MARIADB=f"mariadb {where} -N shop",
        MARIADBDUMP=f"mariadb-dump {where}",
        REDIS=f"redis-cli -p {redis_server.port} --no-auth-warning -a redis-password",
        DUMPS=str(folder),
        SQLITE=str(folder / "shop.db"),
    )
    place.shell(f'$MARIADB <<"X"\n{SHOP}X\n')
    place.shell("$REDIS mset session:1 one session:2 two; $REDIS lpush queue a b")
    with sqlite3.connect(folder / "shop.db") as file:
        file.executescript(SHOP)
    file.close()
    for name, server, login in (
        ("mariadb", mariadb, {"username": user, "password": password}),
        ("redis", redis_server, {"password": "redis-password"}),
    ):
        place.add_login(name, kind="database", hosts=["127.0.0.1"], **login)
        place.add_asset(name, type=name, address="127.0.0.1", port=server.port, credential=name)
    return place


def _add_postgres(place: Place, postgres: Cluster) -> None:
    postgres.run("createdb", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "opsc", "shop")
    shop = f"postgresql://opsc@127.0.0.1:{postgres.port}/shop"
    secret = POSTGRES_PASSWORD.replace("'", "''")
    postgres.execute(shop, f"CREATE ROLE backup SUPERUSER LOGIN PASSWORD '{secret}'")
    rules = postgres.folder / "data/pg_hba.conf"
    rules.write_text("host all backup 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    postgres.execute(shop, "SELECT pg_reload_conf()")
    postgres.execute(shop, SHOP)
    where = f"-h 127.0.0.1 -p {postgres.port} -U opsc"
    place.variables.update(PSQL=f"psql -qAt {where}", PGDUMP=f"pg_dump {where}")
    place.add_login(
        "postgres",
        kind="database",
        hosts=["127.0.0.1"],
        username="backup",
        password=POSTGRES_PASSWORD,
    )
    place.add_asset(
        "postgres",
        type="postgresql",
        address="127.0.0.1",
        port=postgres.port,
        credential="postgres",
    )

"""stub"""

from sqlalchemy import Connection

from flows.instrument import Instrument


def create_views(db: Connection, instrument: Instrument) -> None: ...
def drop_views(db: Connection) -> None: ...

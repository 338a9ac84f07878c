"""The table: every MUST, MUST NOT, SHOULD and SHOULD NOT of revision 2026-07-28 that binds a server.

Both directions are enforced by `tests.test_interaction_table`: what the table calls tested is claimed by tests, what
tests claim is in the table, and the tests that it names exist.
"""

from tests.interaction import (
    table_basic,
    table_client,
    table_patterns,
    table_server,
    table_transports,
    table_utilities,
)
from tests.interaction.model import Requirement

REVISION = "2026-07-28"

#: pages that the table leaves out, and why
OUT_OF_SCOPE = {
    "basic/authorization/index": "authorization has an issue of its own, and will have its own table",
    "basic/authorization/authorization-server-discovery": "as above",
    "basic/authorization/client-registration": "as above",
    "basic/authorization/security-considerations": "as above",
    "architecture/index": "demands nothing",
    "server/index": "demands nothing",
    "changelog": "repeats what the pages say",
}

#: requirements on clients alone stand in no row; these pages hold many
CLIENT_SIDE = (
    "What binds clients alone is left out: it belongs to the table of a client, which is not there yet."
)

TABLE: tuple[Requirement, ...] = (
    *table_basic.TABLE,
    *table_patterns.TABLE,
    *table_transports.TABLE,
    *table_server.TABLE,
    *table_utilities.TABLE,
    *table_client.TABLE,
)

"""Authorization as a client meets it: discovery, registration, tokens, and what to do when one is refused."""

from erlmcp.client.oauth._authorization import Authorization
from erlmcp.client.oauth._errors import AuthorizationError
from erlmcp.client.oauth._fetching import Fetch, Fetched
from erlmcp.client.oauth._grants import (
    AnyGrant,
    AssertionSupplier,
    AuthMethod,
    AuthorizationCode,
    ClientCredentials,
    EnterpriseManaged,
    SigningKey,
    StaticToken,
    Supplier,
    WorkloadIdentity,
)
from erlmcp.client.oauth._guard import LOOPBACK, AddressGuard
from erlmcp.client.oauth._guarded import GuardedFetch
from erlmcp.client.oauth._interaction import Interaction, Redirected
from erlmcp.client.oauth._loopback import LoopbackInteraction
from erlmcp.client.oauth._store import CredentialStore, FileStore, MemoryStore, StoreKey
from erlmcp.client.oauth._urls import is_loopback

__all__ = [
    "LOOPBACK",
    "AddressGuard",
    "AnyGrant",
    "AssertionSupplier",
    "AuthMethod",
    "Authorization",
    "AuthorizationCode",
    "AuthorizationError",
    "ClientCredentials",
    "CredentialStore",
    "EnterpriseManaged",
    "Fetch",
    "Fetched",
    "FileStore",
    "GuardedFetch",
    "Interaction",
    "LoopbackInteraction",
    "MemoryStore",
    "Redirected",
    "SigningKey",
    "StaticToken",
    "StoreKey",
    "Supplier",
    "WorkloadIdentity",
    "is_loopback",
]

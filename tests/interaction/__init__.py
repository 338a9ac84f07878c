"""What the specification demands of a server, as a table, and what the tests of it share.

`requirements` is the table, `cases` what a test case is, `clients` one client for each transport, `stage` the provider
that they talk to, `published` the validation of each message by the published JSON Schema.
"""

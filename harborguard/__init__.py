"""HarborGuard's inventory of container images, as one small service.

Two folders are its doors, and everything beside them is the field itself:

api/    the only code that speaks HTTP
store/  the only code that speaks SQL (statements that never vary lie in ../sql)

One request: credentials -> store.principals -> api.schemas -> store.image_query -> api.pagination.
One scan: reports -> risk -> store.scans, through the corridor `ingest`.
"""

__version__ = "0.1.0"

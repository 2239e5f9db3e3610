"""HarborGuard Images: an inventory of container images and their vulnerabilities.

`api` serves HTTP requests, `store` reads and writes the database, and `oci` calls container
registries. ARCHITECTURE.md describes every module.
"""

__version__ = "0.1.0"

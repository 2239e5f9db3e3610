"""HarborGuard Images: an inventory of container images and their vulnerabilities.

`api` is the only package that handles HTTP, `store` the only one that runs SQL, and `oci` the only
one that calls container registries. ARCHITECTURE.md has the map of all modules.
"""

__version__ = "0.1.0"

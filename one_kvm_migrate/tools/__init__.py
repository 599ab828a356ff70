"""One external tool or hardened parser per module."""

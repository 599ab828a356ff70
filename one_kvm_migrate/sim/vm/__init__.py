"""Virtual machines of the embedded OpenNebula."""

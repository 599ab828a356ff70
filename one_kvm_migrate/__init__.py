"""Move an OpenNebula cloud's guests from VirtualBox to KVM."""

__version__ = "0.1.0"

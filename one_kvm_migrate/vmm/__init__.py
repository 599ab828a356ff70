"""The host driver: what OpenNebula's hypervisor scripts do, one short process per action.

It runs on every hypervisor with the system's Python. It may import the standard library,
libvirt, and this package's ``errors``, ``units`` and ``deadline`` only, and no module that
is slow to load: a script starts for every action of every virtual machine.
"""

"""An OpenNebula small enough for one machine: oned's XML-RPC, state machines and files.

It stands in for oned in demos and tests, so it shares no code with ``opennebula/`` (the
client side); only the error tree, units, deadlines and the tool runner are common.

How the parts fit: ``rpc`` authenticates, checks parameter types and runs a handler of
``METHODS`` inside one ``store`` transaction. Handlers read objects (``sim.store.get``),
check rights (``auth.require``), change the XML and write it back with ``sim.store.put`` (or
``sim.events.update`` for kinds with a STATE, which fires hooks). Work that takes time goes to
``sim.jobs.submit`` through ``sim.store.after_commit``; programs run through
``sim.processes.run``, so that stopping ends them.
"""

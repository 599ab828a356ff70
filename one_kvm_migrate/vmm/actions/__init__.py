"""One module per action: ``timeout_s(settings)`` and ``run(call)``, which returns stdout's line."""

"""``python -m one_kvm_migrate`` is ``one-kvm-migrate``."""

from one_kvm_migrate.cli.main import main

raise SystemExit(main())

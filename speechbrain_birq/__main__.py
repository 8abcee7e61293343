"""``python -m speechbrain_birq`` is the command ``birq``."""

from speechbrain_birq.cli.main import main

main()

"""Objects into memory, threads, the disk cache, plans and programs. No compiling here."""

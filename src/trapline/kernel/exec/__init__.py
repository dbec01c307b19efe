"""Program images: ELF, scripts, and the first stack."""

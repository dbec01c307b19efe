"""System calls: thin handlers, one file per family of manual pages. Importing a family registers its calls."""

"""Page tables: entry formats, the walk, and views of what a table maps."""

"""The microscope: traces and views of what crosses the line."""

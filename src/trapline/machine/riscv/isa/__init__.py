"""Every instruction, declared once: its encoding, its assembly text and its meaning side by side, one file per extension."""
